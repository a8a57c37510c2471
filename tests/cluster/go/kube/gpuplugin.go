package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// gpuPlugin is a device plugin that offers GPUs that are not there. It speaks to the kubelet just as a vendor's does,
// so capacity, allocatable, allocation per container and what a kubelet restart does to them are all the real thing.
type gpuPlugin struct {
	deviceplugin.UnimplementedDevicePluginServer
	devices []*deviceplugin.Device
}

func (p *gpuPlugin) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{}, nil
}

func (p *gpuPlugin) ListAndWatch(_ *deviceplugin.Empty, stream deviceplugin.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: p.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *gpuPlugin) Allocate(_ context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	response := &deviceplugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &deviceplugin.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return response, nil
}

func runGPUPlugin() int {
	resource := flag.String("resource", "nvidia.com/gpu", "extended resource to offer")
	count := flag.Int("count", 1, "number of devices")
	directory := flag.String("directory", deviceplugin.DevicePluginPath, "the kubelet's device plugin folder")
	flag.Parse()
	plugin := &gpuPlugin{}
	for i := range *count {
		plugin.devices = append(plugin.devices, &deviceplugin.Device{ID: fmt.Sprintf("GPU-%d", i), Health: deviceplugin.Healthy})
	}
	for {
		if err := plugin.serveOneKubelet(*directory, *resource); err != nil {
			log.Printf("%v; trying again", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// serveOneKubelet registers with the kubelet and serves it until it goes away. A kubelet that starts empties the folder,
// our socket included, and makes its own socket anew: a changed kubelet.sock means to serve and register again.
func (p *gpuPlugin) serveOneKubelet(directory, resource string) error {
	kubeletSocket := filepath.Join(directory, "kubelet.sock")
	before, err := os.Stat(kubeletSocket)
	if err != nil {
		return err
	}
	ownSocket := filepath.Join(directory, "frostline-gpu.sock")
	if err := os.Remove(ownSocket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", ownSocket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	deviceplugin.RegisterDevicePluginServer(server, p)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	if err := register(kubeletSocket, filepath.Base(ownSocket), resource); err != nil {
		return err
	}
	log.Printf("registered %d x %s", len(p.devices), resource)
	for {
		time.Sleep(200 * time.Millisecond)
		now, err := os.Stat(kubeletSocket)
		if err != nil || !os.SameFile(before, now) || !now.ModTime().Equal(before.ModTime()) {
			return fmt.Errorf("the kubelet restarted")
		}
	}
}

func register(kubeletSocket, endpoint, resource string) error {
	connection, err := grpc.NewClient("unix://"+kubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = deviceplugin.NewRegistrationClient(connection).Register(ctx, &deviceplugin.RegisterRequest{
		Version: deviceplugin.Version, Endpoint: endpoint, ResourceName: resource,
	})
	return err
}
