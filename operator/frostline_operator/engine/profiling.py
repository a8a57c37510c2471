"""What the trainer is asked to profile: a study's model and training, at the corners of its search space."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from frostline_operator.api.bindings import BindingError, bind, is_active
from frostline_operator.api.parameters import Parameter
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.api.targets import target_of
from frostline_operator.engine.space import Assignment, assignments
from frostline_trainer.contract import ProfileSpec, Scalar, Variant

MOST_CORNERS = 12
"""Corners that are tried; each takes the trainer two simulations, about a second."""
MOST_CHOICES = 64
"""Variants that a preflight tries out; each takes the trainer a tenth of a second."""
COMPANIES = 4
"""Configurations beside which each choice is tried."""
_NO_MEMORY = (
    ("schedule",), ("optimizer", "lr"), ("optimizer", "weight_decay"), ("optimizer", "beta1"), ("optimizer", "beta2"),
    ("optimizer", "eps"),
)  # fmt: skip
"""Fields of the training section whose value changes no tensor's size."""


def profile_document(spec: HPOStudySpec) -> str:
    """What the profile depends on, as JSON."""
    custom = spec.model.family == "Custom"
    first = assignments(spec.parameters, spec.search, 1)[0]
    document = ProfileSpec(
        model=spec.model,
        data=spec.data,
        training=spec.training,
        hyperparameters=first if custom else {},
        variants=list(corners(spec)),
    )
    return document.model_dump_json(by_alias=True, exclude_none=True)


def corners(spec: HPOStudySpec) -> Iterator[Variant]:
    """Configurations at the ends of every range (or with every choice) that may change how much memory a trial takes.

    All combinations where there are at most `MOST_CORNERS`; else all largest values together, and then each value by
    itself. Of an unbound hyperparameter of a custom entrypoint nothing is known, so it counts too.
    """
    custom = spec.model.family == "Custom"
    chosen = [p for p in spec.parameters if _matters(p, custom)]
    if not chosen:
        return
    first = assignments(spec.parameters, spec.search, 1)[0]
    ends = [_ends(parameter) for parameter in chosen]
    names = [parameter.name for parameter in chosen]
    combinations = list(itertools.islice(itertools.product(*ends), MOST_CORNERS + 1))
    if len(combinations) > MOST_CORNERS:
        alone = [(name, value) for name, values in zip(names, ends, strict=True) for value in values]
        tried = [{name: values[-1] for name, values in zip(names, ends, strict=True)}]
        tried += [{name: value} for name, value in alone]
        picked = tried[:MOST_CORNERS]
    else:
        picked = [dict(zip(names, values, strict=True)) for values in combinations]
    seen: list[Variant] = []
    for values in picked:
        assignment = _complete(spec.parameters, {**first, **values})
        try:
            bound = bind(spec.parameters, spec.base, assignment)
        except BindingError:  # a combination that no trial has
            continue
        label = ", ".join(f"{name} = {assignment[name]}" for name in names if name in assignment)
        variant = Variant(
            model=None if bound.model == spec.model else bound.model,
            training=None if bound.training == spec.training else bound.training,
            hyperparameters=assignment if custom else None,
            label=label,
        )
        if not any(variant.model_copy(update={"label": other.label}) == other for other in seen):
            seen.append(variant)
            yield variant


def choices_document(spec: HPOStudySpec) -> str:
    """What a preflight tries out, as JSON: the study as it begins, and every choice that it offers."""
    bound = bind(spec.parameters, spec.base, assignments(spec.parameters, spec.search, 1)[0])
    variants = list(itertools.islice(choices(spec), MOST_CHOICES))
    document = ProfileSpec(model=bound.model, data=spec.data, training=bound.training, variants=variants)
    return document.model_dump_json(by_alias=True, exclude_none=True)


def choices(spec: HPOStudySpec) -> Iterator[Variant]:
    """The study with each value of a categorical hyperparameter, and each end of a range, named by its label.

    Each several times, beside what the first configurations draw for the others, since a choice is wrong only where no
    company suits it. Of those only that change the model, the batches or the optimizer: others cannot keep a network
    from being built.
    """
    drawn = assignments(spec.parameters, spec.search, 16)
    chosen = [p for p in spec.parameters if target_of(p) is not None and _matters(p, False)]
    for company in itertools.islice(itertools.cycle(drawn), COMPANIES):
        for parameter in chosen:
            for value in _ends(parameter):
                values = {**company, **_reached(spec.parameters, parameter, value)}
                try:
                    bound = bind(spec.parameters, spec.base, _complete(spec.parameters, values))
                except BindingError:
                    continue
                yield Variant(model=bound.model, training=bound.training, label=f"{parameter.name} = {value}")


def _reached(parameters: list[Parameter], parameter: Parameter, value: Scalar) -> Assignment:
    """A value of a hyperparameter, with those of its ancestors under which it exists."""
    values: Assignment = {parameter.name: value}
    by_name = {p.name: p for p in parameters}
    while parameter.when is not None and parameter.when.parameter in by_name:
        values[parameter.when.parameter] = parameter.when.values[0]
        parameter = by_name[parameter.when.parameter]
    return values


def _complete(parameters: list[Parameter], values: Assignment) -> Assignment:
    """With a value for every parameter that is active, and for no other."""
    made: Assignment = {}
    for parameter in parameters:
        if is_active(parameter, made):
            made[parameter.name] = values.get(parameter.name, _ends(parameter)[-1])
    return made


def _matters(parameter: Parameter, custom: bool) -> bool:
    target = target_of(parameter)
    if target is None:
        return custom
    if target.section == "data":
        return False
    return target.section == "model" or not any(target.path[1 : 1 + len(p)] == p for p in _NO_MEMORY)


def _ends(parameter: Parameter) -> list[Scalar]:
    """The values to try, the largest last."""
    if parameter.type == "Constant":
        assert parameter.value is not None
        return [parameter.value]
    if parameter.values is not None:
        return list(parameter.values)
    assert parameter.min is not None and parameter.max is not None
    ends = [parameter.min, parameter.max]
    return [round(end) if parameter.type == "Int" else float(end) for end in ends]
