"""What must hold between hyperparameters and the fields they are bound to.

A range is checked at both ends and a list of choices one by one, by really making the section with that value, so that
no trial of an accepted study can be refused for one hyperparameter's value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from frostline_operator.api.bindings import Bound, contains, put
from frostline_operator.api.parameters import Parameter
from frostline_operator.api.problems import listed
from frostline_operator.api.search import FidelitySpec
from frostline_operator.api.targets import Target, UnknownFieldError, suggestion, target_of
from frostline_operator.api.wording import field_error
from frostline_trainer.contract import DataSpec, FieldPath, ModelSpec, OptimizerSpec, Scalar, TrainingSpec

Found = Iterator[tuple[FieldPath, str]]

OPTIMIZER_OF = {
    "momentum": ("SGD",),
    "nesterov": ("SGD",),
    "beta1": ("AdamW", "Adam", "AdamW8bit"),
    "beta2": ("AdamW", "Adam", "AdamW8bit"),
}
"""Fields that only some optimizers read."""


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
