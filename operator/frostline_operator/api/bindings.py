"""From a trial's hyperparameters to the model, data and training it stands for, and what must hold for that.

A range is checked at both ends and a list of choices one by one, by really making the section with that value, so that
no trial of an accepted study can be refused for one hyperparameter's value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.problems import describe, field_error, listed, plain_path
from frostline_operator.api.search import FidelitySpec
from frostline_operator.api.targets import Target, UnknownFieldError, suggestion, target_of
from frostline_trainer.contract import DataSpec, FieldPath, ModelSpec, OptimizerSpec, Scalar, SectionError, TrainingSpec

Found = Iterator[tuple[FieldPath, str]]

OPTIMIZER_OF = {
    "momentum": ("SGD",),
    "nesterov": ("SGD",),
    "beta1": ("AdamW", "Adam", "AdamW8bit"),
    "beta2": ("AdamW", "Adam", "AdamW8bit"),
}
"""Fields that only some optimizers read."""


class Bound(NamedTuple):
    """What one trial trains: the study's sections with the trial's hyperparameters in their fields."""

    model: ModelSpec
    data: DataSpec
    training: TrainingSpec


class BindingError(ValueError):
    """An assignment that does not fit its study: unknown, missing or inactive names, or values a field refuses."""


def bind(parameters: Sequence[Parameter], base: Bound, assignment: Mapping[str, Scalar]) -> Bound:
    """A study's model, data and training with the assignment's values in the fields they are bound to.

    A hyperparameter whose condition does not hold is absent from the assignment, and its field keeps the study's value.

    Args:
        parameters: of the study.
        base: the study's own sections.
        assignment: a value for each hyperparameter that is active.

    Raises:
        BindingError: if the assignment lacks an active hyperparameter, has another one, or gives a field a value that
            it does not accept.
    """
    names = [p.name for p in parameters if is_active(p, assignment)]
    missing = [name for name in names if name not in assignment]
    excess = [name for name in assignment if name not in names]
    if missing or excess:
        words = [f"lacks {name}" for name in missing] + [f"has {name}, which is not active" for name in excess]
        raise BindingError(f"the assignment {' and '.join(words)}")
    values = [
        (target, assignment[p.name])
        for p in parameters
        if p.name in assignment and (target := target_of(p)) is not None
    ]
    bound = put(base, values)
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


def binding_problems(
    parameters: Sequence[Parameter | None],
    model: ModelSpec | None,
    data: DataSpec | None,
    training: TrainingSpec | None,
    fidelity: FidelitySpec | None,
) -> Found:
    """Everything wrong with where the hyperparameters go; sections that are None are wrong themselves."""
    bound: list[tuple[int, Parameter, Target]] = []
    for index, parameter in enumerate(parameters):
        if parameter is None:
            continue
        try:
            target = target_of(parameter)
        except UnknownFieldError as error:
            yield ("parameters", index, "bind"), str(error)
            continue
        if target is not None:
            bound.append((index, parameter, target))
        elif model is not None and model.family != "Custom":
            yield ("parameters", index), _without_effect(parameter, model)
    for position, (index, parameter, target) in enumerate(bound):
        yield from _twice(index, parameter, target, [(p, t) for _, p, t in bound[:position]])
        if fidelity is not None and target.changes_depth and not trains_all_layers(fidelity):
            text = (
                f"{target.text} changes the number of layers, so the last z of them would differ from trial to trial; "
                "set fidelity.layers.min: All, or make it one study per choice"
            )
            yield ("parameters", index, "bind"), text
        base = Bound(model, data, training) if model and data and training else None
        yield from _values(index, parameter, target, base)
    if training is not None:
        yield from _unread(bound, training)


def trains_all_layers(fidelity: FidelitySpec) -> bool:
    """Whether every rung trains the whole network, so that nothing depends on where layers are counted from."""
    if fidelity.rungs is not None:
        return all(rung.layers == "All" for rung in fidelity.rungs)
    return fidelity.layers.min == "All"


def _without_effect(parameter: Parameter, model: ModelSpec) -> str:
    meant = suggestion(parameter.name)
    if meant is not None and meant.startswith("model.config.") and model.family != "CausalLM":
        meant = None
    example = meant or ("model.config.n_embd" if model.family == "CausalLM" else "training.optimizer.lr")
    remedy = f"did you mean bind: {example}?" if meant else f"add bind: and a field's path, such as {example}"
    return f"is bound to no field, so it would have no effect; {remedy}"


def _twice(index: int, parameter: Parameter, target: Target, earlier: Sequence[tuple[Parameter, Target]]) -> Found:
    for other, where in earlier:
        if target.overlaps(where) and not _exclusive(parameter, other):
            field = "bind" if parameter.bind is not None else "name"
            text = f"{other.name} is bound to {where.text} already; bind one of the two elsewhere, or remove it"
            yield ("parameters", index, field), text
            return


def _exclusive(a: Parameter, b: Parameter) -> bool:
    """Whether two hyperparameters never exist together: same parent, different values of it."""
    if a.when is None or b.when is None or a.when.parameter != b.when.parameter:
        return False
    return not any(contains(b.when.values, value) for value in a.when.values)


def candidates(parameter: Parameter) -> list[tuple[FieldPath, Scalar]]:
    """The values that stand for all others: both ends of a range, or every choice; each with where it is written."""
    if parameter.value is not None:
        return [(("value",), parameter.value)]
    if parameter.values is not None:
        return [(("values", position), value) for position, value in enumerate(parameter.values)]
    assert parameter.min is not None and parameter.max is not None
    whole = parameter.type == "Int"
    return [(("min",), int(parameter.min) if whole else parameter.min),
            (("max",), int(parameter.max) if whole else parameter.max)]  # fmt: skip


def _values(index: int, parameter: Parameter, target: Target, base: Bound | None) -> Found:
    """The values that the field, or its section, does not accept."""
    if target.field is not None and parameter.type == "Float" and field_error(target.field, 0.5):
        wrong = [value for _, value in candidates(parameter) if field_error(target.field, value)]
        if len(wrong) == 2 and not any(field_error(target.field, int(v)) for v in wrong if v == int(v)):
            text = f"{target.text} takes no fractions, and a Float range has them; set type: Int"
            if field_error(target.field, "x") and not field_error(target.field, 1):
                yield ("parameters", index, "type"), text
                return
    for path, value in candidates(parameter):
        where: FieldPath = ("parameters", index, *path)
        wrong_alone = field_error(target.field, value) if target.field is not None else None
        if wrong_alone:
            yield where, f"{target.text} {wrong_alone}"
        elif base is not None:
            made = put(base, [(target, value)])
            if not isinstance(made, Bound):
                place, message = made
                if not place:
                    yield ("parameters", index, "bind"), message
                    return
                yield where, f"with this value, {'.'.join(map(str, place))}: {message}"


def _unread(bound: Sequence[tuple[int, Parameter, Target]], training: TrainingSpec) -> Found:
    """Optimizer fields that no optimizer of this study reads."""
    optimizer = training.optimizer
    names: set[Scalar] = {optimizer.name}
    for _, parameter, target in bound:
        if target.text == "training.optimizer.name":
            chosen = {value for _, value in candidates(parameter)}
            names = chosen if parameter.when is None else names | chosen
    for field, readers in OPTIMIZER_OF.items():
        if names & set(readers):
            continue
        text = f"{field} is for {listed(readers)}, and no trial uses it; remove it, or set name: {readers[0]}"
        if getattr(optimizer, field) != OptimizerSpec.model_fields[field].default:
            yield ("training", "optimizer", field), text
        for index, parameter, target in bound:
            if target.path == ("training", "optimizer", field):
                where: FieldPath = ("parameters", index, *(("bind",) if parameter.bind is not None else ("name",)))
                yield where, f"{text.replace('name:', 'training.optimizer.name:')}"
