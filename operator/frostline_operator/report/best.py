"""A study's best configuration as YAML: for a manifest, and for the next pipeline."""

from __future__ import annotations

from typing import Any

from frostline_operator.api.bindings import OPTIMIZER_OF, BindingError, bind
from frostline_operator.api.targets import Target, target_of
from frostline_operator.api.yaml import to_yaml
from frostline_operator.report.record import StudyRecord


def best_yaml(record: StudyRecord) -> str:
    """The best configuration as sections of a manifest's `spec`; empty where there is no best yet.

    `model`, `training` and `data` hold what differs from the defaults and everything that was tuned. What is bound to
    no field, as in a custom entrypoint, is a Constant in `parameters`. Fields that the optimizer does not read are left
    out, because the loader refuses them. A study with these sections trains the same model on the same data alike.
    """
    if record.best is None:
        return ""
    spec, assignment = record.study.spec, record.best.assignment
    try:
        bound = bind(spec.parameters, spec.base, assignment)
    except BindingError:  # a record of a study that was edited by hand since
        return to_yaml({"parameters": [_constant(name, value) for name, value in assignment.items()]})
    sections = {
        name: getattr(bound, name).model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for name in ("model", "data", "training")
    }
    active = [(parameter.name, target_of(parameter)) for parameter in spec.parameters if parameter.name in assignment]
    loose = [_constant(name, assignment[name]) for name, target in active if target is None]
    tuned = [target for _, target in active if target is not None]
    for target in tuned:
        _copy(target, getattr(bound, target.section).model_dump(mode="json", by_alias=True), sections[target.section])
    optimizer = sections["training"].get("optimizer", {})
    for field, readers in OPTIMIZER_OF.items():
        if bound.training.optimizer.name not in readers:
            optimizer.pop(field, None)
    if bound.data == spec.data and not any(target.section == "data" for target in tuned):
        del sections["data"]
    document = {"parameters": loose, **sections} if loose else sections
    return to_yaml({name: section for name, section in document.items() if section})


def best_to_yaml(record: StudyRecord) -> str:
    """The best configuration and how it came about, to be read by people and by the next pipeline."""
    best = record.best
    document: dict[str, Any] = {
        "study": record.study.metadata.name,
        "outcome": record.outcome,
        "metric": record.study.spec.objective.metric,
        "direction": record.study.spec.objective.direction,
        "trials": len(record.trials),
    }
    if best is not None:
        document["best"] = {
            "trial": best.trial,
            "value": best.value,
            "rung": best.rung,
            "layers": best.layers,
            record.unit: best.tokens,
            "assignment": dict(best.assignment),
            **({"checkpoint": record.checkpoint} if record.checkpoint else {}),
        }
    return to_yaml(document)


def _constant(name: str, value: object) -> dict[str, Any]:
    return {"name": name, "type": "Constant", "value": value}


def _copy(target: Target, whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Copy a field from a section to a part of it, where it may be missing because it equals the default."""
    *above, last = target.text.split(".")[1:]
    for name in above:
        if isinstance(whole[name], list):  # lists have no defaults of single entries: this one is there whole
            return
        whole, part = whole[name], part.setdefault(name, {})
    part[last] = whole[last]
