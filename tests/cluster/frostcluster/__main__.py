"""The command line: build, up, down, status, env."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence

from frostcluster import build, cluster, processes, requirements, state
from frostcluster.errors import ClusterError
from frostcluster.node import DEFAULT_NODES, NodeSpec

_DESCRIPTION = """\
A whole real Kubernetes 1.36 on this machine, with nodes whose GPUs are declared: etcd, API server, controllers,
scheduler, DNS, and per node a kubelet, containerd with runc, and kube-proxy. Needs Linux, root and, for the first
build, Go.

  frostcluster build            build what a cluster needs (once; about 7 minutes when nothing is cached)
  frostcluster up               start a cluster (about 10 seconds)
  eval "$(frostcluster env)"    let kubectl and helm in this shell talk to it
  frostcluster down             remove it without a trace
"""
_EPILOG = """\
environment:
  FROSTLINE_CLUSTER_CACHE  where built programs are kept (default: frostline/cluster in the user's cache folder)
  FROSTLINE_CLUSTER_STATE  where running clusters keep their data (default: /var/lib/frostline-cluster)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command != "build":
            requirements.require_platform()
        options.run(options)
    except ClusterError as error:
        print(f"frostcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("frostcluster: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("frostcluster", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    builder = commands.add_parser("build", help="build the programs, those that are not in the cache")
    builder.add_argument(
        "components",
        nargs="*",
        metavar="COMPONENT",
        help=f"what to build: {', '.join(build.COMPONENTS)}, or all (default: {' '.join(build.CORE_NAMES)})",
    )
    builder.set_defaults(run=_build)

    starter = commands.add_parser("up", help="start a cluster, building first what it needs")
    starter.add_argument(
        "--node",
        action="append",
        type=_node,
        metavar="NAME[:GPUS[:MIB[:PRODUCT]]]",
        help="a node with that many GPUs of that memory; give one --node for each "
        f"(default: {' '.join(_describe(node) for node in DEFAULT_NODES)})",
    )
    starter.set_defaults(run=_up)

    commands.add_parser("down", help="remove a cluster, or what is left of one").set_defaults(run=_down)
    commands.add_parser("status", help="show what runs").set_defaults(run=_status)
    commands.add_parser("env", help="print shell lines that point kubectl and helm at a cluster").set_defaults(run=_env)
    for command in commands.choices.values():
        if command is not builder:
            help_text = "the cluster's name (default: %(default)s)"
            command.add_argument("--name", default=cluster.DEFAULT_NAME, help=help_text)
    return parser


def _node(text: str) -> NodeSpec:
    name, *rest = text.split(":", 3)
    try:
        gpus = int(rest[0]) if rest else 2
        memory = int(rest[1]) if len(rest) > 1 else 8192
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: GPUS and MIB are numbers") from None
    product = rest[2] if len(rest) > 2 else "NVIDIA-Test-GPU"
    return NodeSpec(state.check_name(name), gpus, memory, product)


def _describe(node: NodeSpec) -> str:
    return f"{node.name}:{node.gpus}:{node.gpu_memory_mib}:{node.gpu_product}"


def _build(options: argparse.Namespace) -> None:
    names = list(build.COMPONENTS) if options.components == ["all"] else options.components or build.CORE_NAMES
    build.build(names)
    for name in names:
        print(build.output_folder(name))


def _up(options: argparse.Namespace) -> None:
    started = time.monotonic()
    with cluster.sigterm_as_interrupt():
        new = cluster.up(options.name, options.node or DEFAULT_NODES)
    print(f"cluster {new.name} is up after {time.monotonic() - started:.0f} s: {', '.join(new.nodes)}", file=sys.stderr)
    print(f"kubeconfig: {new.kubeconfig}", file=sys.stderr)


def _down(options: argparse.Namespace) -> None:
    was_there = state.load(options.name) is not None
    cluster.down(options.name)
    print(f"cluster {options.name} is {'down' if was_there else 'not up'}", file=sys.stderr)


def _status(options: argparse.Namespace) -> None:
    current = cluster.Cluster.attach(options.name)
    for record in current.state.processes:
        print(f"{record.name:32} {'running' if processes.is_alive(record) else 'ended':8} pid {record.pid}")
    print(f"\nlogs: {current.processes.logs}\nkubeconfig: {current.kubeconfig}\n")
    print(current.kubectl("get", "nodes", "--output=wide"), end="")


def _env(options: argparse.Namespace) -> None:
    current = cluster.Cluster.attach(options.name)
    # Only what is built already: asking for the environment must not start a build
    folders = [str(build.output_folder(name)) for name in ("kube", "helm", "prometheus") if build.is_built(name)]
    print(f"export KUBECONFIG={shlex.quote(str(current.kubeconfig))}")
    print(f'export PATH={os.pathsep.join(map(shlex.quote, folders))}:"$PATH"')


if __name__ == "__main__":
    sys.exit(main())
