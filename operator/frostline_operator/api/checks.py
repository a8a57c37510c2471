"""What must hold between the sections of a study.

Each check takes the sections that it looks at and is skipped where one of them is missing or wrong in itself, so that a
person sees the problems of all sections at once. Every problem has the path of the field to change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from frostline_operator.api.bindings import binding_problems, contains
from frostline_operator.api.parameters import Parameter, size_bound
from frostline_operator.api.problems import listed, nearest, shown
from frostline_operator.api.search import BudgetSpec, FidelitySpec, Objective, SearchSpec
from frostline_trainer.contract import DataSpec, FieldPath, ModelSpec, TrainingSpec

Found = Iterator[tuple[FieldPath, str]]

_OF_CLASSES = {"loss": "Minimize", "perplexity": "Minimize", "error": "Minimize", "accuracy": "Maximize"}
_OF_NUMBERS = {"loss": "Minimize", "mse": "Minimize", "rmse": "Minimize", "mae": "Minimize", "r2": "Maximize"}
BETTER = _OF_CLASSES | _OF_NUMBERS
"""The metrics that the built-in families report, and which way is better."""
_DATA_OF = {"CausalLM": "Text", "Vision": "Images", "MLP": "Table"}


@dataclass(frozen=True)
class Sections:
    """The sections of a study that are right by themselves; None for the others."""

    objective: Objective | None
    parameters: Sequence[Parameter | None]
    search: SearchSpec | None
    fidelity: FidelitySpec | None
    model: ModelSpec | None
    data: DataSpec | None
    training: TrainingSpec | None
    budget: BudgetSpec | None
    promotion: str | None

    @property
    def known(self) -> list[Parameter]:
        """The parameters that are right by themselves."""
        return [p for p in self.parameters if p is not None]


def cross_problems(s: Sections) -> Found:
    """Everything wrong between the sections: the path of the field to change, and what is wrong with it."""
    yield from _parameters(s.parameters)
    if s.search and s.budget:
        yield from _something_ends_it(s.search, s.budget)
    if s.objective:
        yield from _metric(s.objective, s.model, s.data)
    if s.model:
        yield from _architecture(s.model)
    if s.model and s.data:
        yield from _data_of_family(s.model, s.data)
    if s.model and s.fidelity:
        yield from _unit_of_family(s.model, s.fidelity)
    if s.fidelity and s.promotion:
        yield from _promotion(s.fidelity, s.promotion)
    if s.fidelity and s.search:
        yield from _room_for_rungs(s.fidelity, s.search)
    if s.fidelity and s.training and s.model:
        yield from _one_step_fits(s.fidelity, s.training, s.model)
    if s.search:
        yield from _initial(s.search, s.parameters)
    if s.search and None not in s.parameters:
        yield from _enough_configurations(s.search, s.known)
    yield from binding_problems(s.parameters, s.model, s.data, s.training, s.fidelity)


def _parameters(parameters: Sequence[Parameter | None]) -> Found:
    earlier: dict[str, Parameter] = {}
    broken = None in parameters
    for index, parameter in enumerate(parameters):
        if parameter is None:
            continue
        if parameter.name in earlier:
            yield ("parameters", index, "name"), f"there are two parameters named {parameter.name}; rename one"
        if parameter.when is not None:
            yield from _condition(index, parameter, earlier, broken)
        earlier.setdefault(parameter.name, parameter)


def _condition(index: int, parameter: Parameter, earlier: dict[str, Parameter], broken: bool) -> Found:
    assert parameter.when is not None
    parent = earlier.get(parameter.when.parameter)
    if parent is None:
        if not broken:
            meant = nearest(parameter.when.parameter, earlier)
            remedy = f"did you mean {meant}?" if meant else "declare it earlier in the list"
            text = f"no parameter {parameter.when.parameter} is declared before this one; {remedy}"
            yield ("parameters", index, "when", "parameter"), text
        return
    for position, value in enumerate(parameter.when.values):
        if not possible(parent, value):
            text = f"{parent.name} never is {shown(value)}; {_what(parent)}"
            yield ("parameters", index, "when", "values", position), text


def possible(parameter: Parameter, value: object) -> bool:
    """Whether a hyperparameter can have this value."""
    if parameter.type == "Constant":
        return parameter.value is not None and contains([parameter.value], value)  # type: ignore[arg-type]
    if parameter.values is not None:
        return contains(parameter.values, value)  # type: ignore[arg-type]
    assert parameter.min is not None and parameter.max is not None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if parameter.type == "Int" and value != int(value):
        return False
    if not parameter.min <= value <= parameter.max:
        return False
    if parameter.step is None:
        return True
    steps = (value - parameter.min) / parameter.step
    return abs(steps - round(steps)) < 1e-6


def _what(parameter: Parameter) -> str:
    """What a hyperparameter can be, as a remedy."""
    if parameter.type == "Constant":
        return f"it is always {shown(parameter.value)}"
    if parameter.values is not None:
        return f"give {listed([shown(v) for v in parameter.values])}"
    kind = "a whole number" if parameter.type == "Int" else "a number"
    step = f" in steps of {shown(parameter.step)}" if parameter.step is not None else ""
    return f"give {kind} from {shown(parameter.min)} to {shown(parameter.max)}{step}"


def _something_ends_it(search: SearchSpec, budget: BudgetSpec) -> Found:
    limits = (budget.trials, budget.tokens, budget.gpu_seconds, budget.wall_clock, budget.cost)
    if search.trials is None and all(limit is None for limit in limits) and search.sampler != "Grid":
        yield ("search",), "nothing ends this study; give search.trials, or a limit under budget"


def _metric(objective: Objective, model: ModelSpec | None, data: DataSpec | None) -> Found:
    better = BETTER.get(objective.metric)
    if better is not None and better != objective.direction:
        way = "higher" if better == "Maximize" else "lower"
        yield ("objective", "direction"), f"{objective.metric} is better when {way}; set direction: {better}"
    if model is None or model.family == "Custom":
        return
    numbers = data is not None and data.task == "Regression"
    reported = _OF_NUMBERS if numbers else _OF_CLASSES
    if objective.metric not in reported:
        meant = nearest(objective.metric, reported)
        remedy = f"did you mean {meant}?" if meant else f"use {listed(list(reported))}"
        if objective.metric in BETTER and model.family == "MLP":
            remedy += f", or set data.task: {'Classification' if numbers else 'Regression'}"
        what = " with data.task: Regression" if numbers else ""
        text = f"family {model.family}{what} does not report {objective.metric}; {remedy}"
        yield ("objective", "metric"), text


def _architecture(model: ModelSpec) -> Found:
    kind = model.config.get("model_type", "gpt2")
    if model.family == "CausalLM" and not isinstance(kind, str):
        yield ("model", "config", "model_type"), f"must be text, such as gpt2, got {shown(kind)}"


def _data_of_family(model: ModelSpec, data: DataSpec) -> Found:
    wanted = _DATA_OF.get(model.family)
    if wanted is not None and data.kind != wanted:
        families = {kind: family for family, kind in _DATA_OF.items()}
        other = f", or model.family: {families[data.kind]}" if data.kind in families else ""
        yield ("data", "kind"), f"family {model.family} trains on {wanted}, not {data.kind}; set kind: {wanted}{other}"


def _unit_of_family(model: ModelSpec, fidelity: FidelitySpec) -> Found:
    if fidelity.rungs is not None or model.family == "Custom":
        return
    if model.family == "CausalLM" and fidelity.samples is not None:
        yield ("fidelity", "samples"), "a language model is fed by tokens; rename samples to tokens"
    if model.family != "CausalLM" and fidelity.tokens is not None:
        yield ("fidelity", "tokens"), f"family {model.family} is fed by samples; rename tokens to samples"


def _promotion(fidelity: FidelitySpec, promotion: str) -> Found:
    if promotion != "Continue":
        return
    unit = "tokens" if fidelity.tokens or not fidelity.samples else "samples"
    remedy = f"set promotion: RestartOnThaw, or let {unit} grow"
    amount = fidelity.tokens or fidelity.samples
    if amount is not None and amount.min == "All":
        text = f"a promoted trial that continues would get no further {unit} at min: All; {remedy}"
        yield ("fidelity", unit, "min"), text
    for index, (low, high) in enumerate(itertools.pairwise(fidelity.rungs or [])):
        if low.tokens == high.tokens:
            text = f"a promoted trial that continues would get no further tokens than in rung {index}; {remedy}"
            yield ("fidelity", "rungs", index + 1, "tokens"), text


def _room_for_rungs(fidelity: FidelitySpec, search: SearchSpec) -> Found:
    amount = fidelity.tokens or fidelity.samples
    if amount is None or not isinstance(amount.min, int):
        return
    unit = "tokens" if fidelity.tokens else "samples"
    flat = fidelity.layers.min == "All" and amount.min == amount.max
    if not flat and amount.max < amount.min * search.eta:
        room = amount.max // search.eta
        text = (
            f"with eta {search.eta} there is one rung only between {amount.min} and {amount.max} {unit}; "
            f"lower min to {room} or less, or remove it"
        )
        yield ("fidelity", unit, "min"), text


def _one_step_fits(fidelity: FidelitySpec, training: TrainingSpec, model: ModelSpec) -> Found:
    if model.family == "Custom":
        return
    step = training.batch_size * training.accumulation
    parts = "batchSize x accumulation"
    if model.family == "CausalLM":
        step, parts = step * training.sequence_length, "batchSize x accumulation x sequenceLength"
    amounts: list[tuple[FieldPath, int]] = []
    for unit, amount in (("tokens", fidelity.tokens), ("samples", fidelity.samples)):
        if amount is not None:
            smallest = ("min", amount.min) if isinstance(amount.min, int) else ("max", amount.max)
            amounts.append((("fidelity", unit, smallest[0]), smallest[1]))
    for index, rung in enumerate(fidelity.rungs or []):
        amounts.append((("fidelity", "rungs", index, "tokens"), rung.tokens))
    for path, given in amounts:
        if given < step:
            yield path, f"{given} is less than one training step, which takes {step} ({parts}); raise it"


def _initial(search: SearchSpec, parameters: Sequence[Parameter | None]) -> Found:
    known = {p.name: p for p in parameters if p is not None}
    if search.trials is not None and len(search.initial) > search.trials:
        text = f"{len(search.initial)} configurations, but search.trials is {search.trials}; remove some, or raise it"
        yield ("search", "initial"), text
    for index, assignment in enumerate(search.initial):
        for name, value in assignment.items():
            path: FieldPath = ("search", "initial", index, name)
            parameter = known.get(name)
            if parameter is None:
                if None not in parameters:
                    meant = nearest(name, known)
                    remedy = f"did you mean {meant}?" if meant else f"it is one of {listed(list(known))}"
                    yield path, f"there is no parameter {name}; {remedy}"
            elif not possible(parameter, value):
                yield path, f"{name} never is {shown(value)}; {_what(parameter)}"
            elif parameter.when is not None and parameter.when.parameter in assignment:
                parent = assignment[parameter.when.parameter]
                if not contains(parameter.when.values, parent):
                    text = f"{name} does not exist where {parameter.when.parameter} is {shown(parent)}; remove it"
                    yield path, text


def _enough_configurations(search: SearchSpec, parameters: Sequence[Parameter]) -> Found:
    if search.trials is None or not parameters:
        return
    most = size_bound(parameters, search)
    if most is not None and search.trials > most:
        what = "grid" if search.sampler == "Grid" else "search space"
        yield (
            ("search", "trials"),
            f"the {what} has {most} configuration{'s' if most > 1 else ''} only; set trials: {most} or less",
        )
