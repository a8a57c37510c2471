"""`make try`: a whole real Kubernetes on this machine with Frostline installed by its chart, and what to type next.

The nodes run this checkout and its environment (as the end-to-end tests do), so nothing is built or pulled for it.
"""

from __future__ import annotations

import json
import sys

from frostcluster import build, cluster
from frostcluster.cluster import Cluster
from frostcluster.errors import ClusterError
from tests.e2e.charting import Helm, import_images, shelves, values

NAMESPACE = "frostline"

NEXT = """
Frostline is installed. In this folder, type:

  eval "$(make --silent try-env)"                # kubectl, helm and promtool that talk to this cluster
  kubectl get nodes -L nvidia.com/gpu.memory     # two nodes, of two (declared) GPUs of 8 and 24 GiB each
  kubectl apply -f examples/mlp-breast-cancer.yaml
  kubectl get studies -w                         # phase, rung, trials, best value; Ctrl-C ends the watching
  kubectl get trials,jobs,pods
  kubectl wait --for=condition=Complete study/mlp-breast-cancer --timeout=10m
  .venv/bin/frostline report --study {namespace}/mlp-breast-cancer --output report.html

`make try-down` removes all of it.
"""


def main(name: str) -> int:
    """Bring the cluster of that name up, or up to date where it is up already."""
    build.build([*build.CORE_NAMES, "helm", "prometheus"])
    with cluster.sigterm_as_interrupt():
        started = _cluster(name)
    checkpoints = started.state.folder / "checkpoints"
    checkpoints.mkdir(mode=0o777, exist_ok=True)
    checkpoints.chmod(0o777)  # pods are not root
    print("installing the chart ...", file=sys.stderr, flush=True)
    import_images(started)
    started.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    volumes, mounts = shelves(started, NAMESPACE, checkpoints)
    settings = started.state.folder / "values.yaml"
    settings.write_text(json.dumps(values(volumes, mounts)))
    Helm(started, NAMESPACE).install(settings)
    started.kubectl("config", "set-context", "--current", f"--namespace={NAMESPACE}")
    print(NEXT.format(namespace=NAMESPACE))
    return 0


def _cluster(name: str) -> Cluster:
    try:
        return Cluster.attach(name)
    except ClusterError:
        print("starting a cluster ...", file=sys.stderr, flush=True)
        return cluster.up(name)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
