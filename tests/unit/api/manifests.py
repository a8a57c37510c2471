"""Manifests for tests: one that is right, and how to spoil it."""

from __future__ import annotations

GOOD = """\
apiVersion: hpo.frostline.dev/v1alpha1
kind: HPOStudy
metadata:
  name: demo
spec:
  objective: {metric: loss}
  parameters:
    - name: lr
      type: Float
      min: 1e-4
      max: 1e-1
      scale: Log
    - {name: opt, type: Categorical, values: [AdamW, SGD], bind: training.optimizer.name}
  search: {trials: 16}
  fidelity:
    tokens: {max: 100000}
  model:
    family: CausalLM
    config: {model_type: gpt2, n_layer: 8, n_embd: 64}
  data: {kind: Text, builtin: python-docs}
  training:
    batchSize: 4
    sequenceLength: 32
"""

VISION = """\
apiVersion: hpo.frostline.dev/v1alpha1
kind: HPOStudy
metadata: {name: demo}
spec:
  objective: {metric: accuracy, direction: Maximize}
  parameters: [{name: lr, type: Float, min: 1e-4, max: 1e-1}]
  search: {trials: 4}
  fidelity: {samples: {max: 100000}}
  model: {family: Vision, name: resnet18}
  data: {kind: Images, builtin: digits}
"""

CUSTOM = """\
apiVersion: hpo.frostline.dev/v1alpha1
kind: HPOStudy
metadata: {name: demo}
spec:
  objective: {metric: reward, direction: Maximize}
  parameters: [{name: anything, type: Float, min: 0, max: 1}]
  search: {trials: 4}
  fidelity: {samples: {max: 100}}
  model: {family: Custom, entrypoint: "mine:train"}
  data: {kind: None}
"""


def changed(old: str, new: str, text: str = GOOD) -> str:
    """The manifest with one piece replaced; the piece must be there, and once."""
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    return text.replace(old, new)
