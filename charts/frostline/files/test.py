"""Run a tiny study to its end, and say how it went: python test.py NAMESPACE NAME SECONDS."""

import json
import sys
import time
from pathlib import Path

from frostline_operator.kubernetes.client.api import STUDIES, Api

namespace, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
api = Api.connect()
api.delete(STUDIES, namespace, name, "Foreground")
deadline = time.monotonic() + seconds
while api.get(STUDIES, namespace, name) is not None and time.monotonic() < deadline:
    time.sleep(1)
spec = json.loads(Path(__file__).with_name("spec.json").read_text(encoding="utf-8"))
metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "frostline"}}
api.create(
    STUDIES,
    namespace,
    {"apiVersion": "hpo.frostline.dev/v1alpha1", "kind": "HPOStudy", "metadata": metadata, "spec": spec},
)
said = None
while time.monotonic() < deadline:
    study = api.get(STUDIES, namespace, name) or {}
    status = study.get("status", {})
    holds = {c["type"]: c["status"] == "True" for c in status.get("conditions", [])}
    line = f"{status.get('phase', 'Pending')}: {status.get('message', 'the operator has not looked at it yet')}"
    if line != said:
        print(line, flush=True)
        said = line
    if holds.get("Complete"):
        print("best:", json.dumps(status["best"]))
        api.delete(STUDIES, namespace, name)
        sys.exit(0)
    if holds.get("Failed") or holds.get("Accepted") is False:
        break
    time.sleep(1)
else:
    print(f"after {seconds:.0f} s it is not complete; kubectl describe study {name} -n {namespace} says more")
sys.exit(1)
