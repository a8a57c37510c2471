"""Command line; see the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "cluster")]

from charts.grafana.reading import read, substituted  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from tests.e2e.watched import Api  # noqa: E402

from benchmarks.dashboards.page import Series, page  # noqa: E402

STUDY = Path(__file__).parent / "study.yaml"
NAME, USABLE = "gpt2-docs", {"gpu-small": "10Mi", "gpu-large": "64Mi"}
_POINTS = 600


@dataclass(frozen=True)
class Shown:
    """What to draw, of which time."""

    url: str
    namespace: str
    study: str
    start: float
    end: float


def main() -> None:
    """Draw the dashboards."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboards", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/dashboards"), help="folder for the pages")
    parser.add_argument("--prometheus", help="URL of one that has watched a study; without it, a study is run")
    parser.add_argument("--namespace", default="default", help="of the study")
    parser.add_argument("--study", default=NAME, help="its name")
    parser.add_argument("--minutes", type=float, default=60, help="how far to look back, with --prometheus")
    given = parser.parse_args()
    if given.prometheus:
        now = time.time()
        draw(Shown(given.prometheus, given.namespace, given.study, now - 60 * given.minutes, now), given.out)
        return
    with studied() as shown:
        draw(shown, given.out)


def draw(shown: Shown, folder: Path) -> None:
    """Write a page for each dashboard."""
    api, seconds = Api(shown.url), shown.end - shown.start
    variables = {"namespace": shown.namespace, "study": shown.study, "__rate_interval": "15s"}

    def ask(expression: str, instant: bool) -> list[Series]:
        asked = substituted(expression, variables)
        if instant:
            return [Series(s["metric"], (_point(s["value"]),)) for s in api.now(asked, shown.end)]
        found = api.over_time(asked, shown.start, shown.end, max(1.0, seconds / _POINTS))
        return [Series(s["metric"], tuple(map(_point, s["values"]))) for s in found]

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("study", "fleet", "operator"):
        path = folder / f"{name}.html"
        path.write_text(
            page(read(name), f"{shown.namespace} / {shown.study}", ask, (shown.start, shown.end)), encoding="utf-8"
        )
        print(path)


def _point(pair: list[str | float]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@contextmanager
def studied() -> Iterator[Shown]:
    """Run the study on the test cluster, watched by a real Prometheus, until it is complete."""
    from frostcluster.cluster import running
    from frostcluster.runtime import python_runtime_mounts
    from frostcluster.workloads import Workloads
    from tests.e2e.operating import Studies, settings_here
    from tests.e2e.watched import watched

    spec = YAML(typ="safe").load(STUDY.read_text(encoding="utf-8"))
    with running("pictures") as cluster, tempfile.TemporaryDirectory() as temporary:
        cluster.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
        for node, usable in USABLE.items():
            cluster.label_node(node, {"hpo.frostline.dev/usable-gpu-memory": usable})
        checkpoints = Path(temporary) / "checkpoints"
        checkpoints.mkdir()
        for folder in (Path(temporary), checkpoints):
            folder.chmod(0o777)
        workloads = Workloads(cluster, "team-a", python_runtime_mounts(Path(sys.prefix), []))
        workloads.create()
        studies = Studies(workloads)
        with watched(cluster, studies, settings_here(checkpoints), Path(temporary)) as (prometheus, _):
            start = time.time()
            studies.apply(NAME, spec)
            status = studies.complete(NAME, seconds=1500)
            print(json.dumps({"best": status["best"], "rungs": status["rungs"]}, indent=1))
            time.sleep(5)
            yield Shown(prometheus.url, studies.namespace, NAME, start, time.time())


if __name__ == "__main__":
    main()
