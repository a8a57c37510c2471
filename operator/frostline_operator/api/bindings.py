"""From a trial's hyperparameters to the model, data and training it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.targets import Target, target_of
from frostline_operator.api.wording import describe, plain_path
from frostline_trainer.contract import DataSpec, FieldPath, ModelSpec, Scalar, SectionError, TrainingSpec

if TYPE_CHECKING:
    from frostline_operator.api.study import HPOStudySpec


class Bound(NamedTuple):
    """What one trial trains: the study's sections with the trial's hyperparameters in their fields."""

    model: ModelSpec
    data: DataSpec
    training: TrainingSpec


class BindingError(ValueError):
    """An assignment that does not fit its study: unknown, missing or inactive names, or values a field refuses."""


def bind(study: HPOStudySpec, assignment: Mapping[str, Scalar]) -> Bound:
    """The study's model, data and training with the assignment's values in the fields they are bound to.

    A hyperparameter whose condition does not hold is absent from the assignment, and its field keeps the study's value.

    Raises:
        BindingError: if the assignment lacks an active hyperparameter, has another one, or gives a field a value that
            it does not accept.
    """
    names = [p.name for p in study.parameters if is_active(p, assignment)]
    missing = [name for name in names if name not in assignment]
    excess = [name for name in assignment if name not in names]
    if missing or excess:
        words = [f"lacks {name}" for name in missing] + [f"has {name}, which is not active" for name in excess]
        raise BindingError(f"the assignment {' and '.join(words)}")
    values = [
        (target, assignment[p.name])
        for p in study.parameters
        if p.name in assignment and (target := target_of(p)) is not None
    ]
    bound = put(Bound(study.model, study.data, study.training), values)
    if isinstance(bound, Bound):
        return bound
    path, message = bound
    raise BindingError(": ".join(filter(None, (".".join(map(str, path)), message))))


def is_active(parameter: Parameter, assignment: Mapping[str, Scalar]) -> bool:
    """Whether a hyperparameter exists beside these values of the others."""
    if parameter.when is None:
        return True
    return parameter.when.parameter in assignment and contains(
        parameter.when.values, assignment[parameter.when.parameter]
    )


def contains(values: Sequence[Scalar], value: Scalar) -> bool:
    """Whether the value is one of these; true and 1 differ, 1 and 1.0 do not."""
    return any(isinstance(v, bool) == isinstance(value, bool) and v == value for v in values)


def put(base: Bound, values: Sequence[tuple[Target, Scalar]]) -> Bound | tuple[FieldPath, str]:
    """The sections with these values in these fields, or the first thing wrong with that: where, and what.

    "Where" is empty for a path that leads nowhere, whatever the value.
    """
    changed: dict[str, dict[str, Any]] = {}
    for target, value in values:
        document = changed.setdefault(target.section, getattr(base, target.section).model_dump())
        if not _set(document, target.path[1:], value):
            return (), f"{target.text} leads nowhere in this study; check model.config and model.hidden"
    made = {}
    for name, document in changed.items():
        try:
            made[name] = type(getattr(base, name)).model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            inner = first.get("ctx", {}).get("error")
            if isinstance(inner, SectionError) and inner.problems:
                path, message = inner.problems[0]
                return (name, *first["loc"], *path), message
            return (name, *plain_path(first, document)), describe([first])
    return base._replace(**made)


def _set(container: Any, path: Sequence[str], value: Scalar) -> bool:
    """Puts the value into nested sections and lists; False where a list is too short, or a scalar is in the way."""
    for position, step in enumerate(path):
        last = position == len(path) - 1
        if isinstance(container, list):
            if not step.isdecimal() or int(step) >= len(container):
                return False
            key: Any = int(step)
        elif isinstance(container, dict):
            key = step
            if not last and container.get(key) is None:
                container[key] = {}
        else:
            return False
        if last:
            container[key] = value
        else:
            container = container[key]
    return True


def prefix_key(bound: Bound) -> str:
    """Equal for trials that may share a run: the same frozen prefix sees the same batches.

    That takes the same model and data, the same batches (batch size, accumulation, sequence length), the same numbers
    in the prefix (its precision), and the same memory and compute per trial (precision, activation checkpointing).
    Optimizer, schedule, clipping, dropout and label smoothing concern the trainable part only and may differ.
    Of a Custom model nothing is known (an unbound hyperparameter may change its prefix), so ask `shares_prefix`.
    """
    training = bound.training
    document: dict[str, object] = {
        "model": bound.model.model_dump(mode="json"),
        "data": bound.data.model_dump(mode="json"),
        "batch": [training.batch_size, training.accumulation, training.sequence_length],
        "precision": [training.precision, training.prefix_precision],
        "activationCheckpointing": training.activation_checkpointing,
    }
    return json.dumps(document, sort_keys=True)


def shares_prefix(a: Bound, b: Bound) -> bool:
    """Whether two trials may share a run, one forward pass of the frozen prefix serving both; see `prefix_key`.

    Never for Custom models.
    """
    return a.model.family != "Custom" and prefix_key(a) == prefix_key(b)
