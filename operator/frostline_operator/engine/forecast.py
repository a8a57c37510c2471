"""What a study would do and cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from frostline_operator.engine import cost
from frostline_operator.engine.budget import price_per_second
from frostline_operator.engine.placement import Placement, placement
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.schedule import Bracket, Rung
from frostline_operator.engine.state import Observation


@dataclass(frozen=True)
class RungForecast:
    """What one rung of one bracket would take."""

    bracket: int
    rung: int
    asked_layers: int
    layers: int
    """Most layers that fit anywhere, at most the asked ones; 0 where nothing fits."""
    tokens: int
    trials: int
    together: int
    """Trials that would share a run (K)."""
    memory_class: str | None
    """Where it would run; None where nothing fits."""
    required_bytes: int | None
    """Predicted need of one such run, headroom not included; None where memory is no limit."""
    parameters: int
    flops: float
    seconds: float | None
    """Of one device for all its runs; None where the speed of its class is not known."""
    cost: float | None
    """In the unit of `budget.prices`; None without time or price."""


@dataclass(frozen=True)
class Forecast:
    """The whole study, and what one would do without it."""

    plan: Plan
    rungs: tuple[RungForecast, ...]
    flops: float
    tokens_only: float
    """The same schedule with all layers at every rung."""
    full: float
    """Every trial at full fidelity."""

    @property
    def seconds(self) -> float | None:
        """Device time of all rungs; None where that of one is not known."""
        return _sum(row.seconds for row in self.rungs)

    @property
    def cost(self) -> float | None:
        """Money for all rungs; None where that for one is not known."""
        return _sum(row.cost for row in self.rungs)


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def forecast(observation: Observation, speeds: Mapping[str, float] | None = None) -> Forecast:
    """The forecast of a study that has not begun.

    Args:
        observation: the study, and where it could run.
        speeds: FLOP/s that a device of a class sustains in training, by class: before any run only a person knows.
    """
    spec, profile = observation.spec, observation.profile
    plan = observation.plan
    rules = placement(observation, observation.state)
    rows = []
    tokens_only = 0.0
    for bracket in plan.brackets:
        rungs = plan.climbed(bracket)
        trainable = [rules.trainable(rung) for rung in rungs]
        steps = cost.steps(profile, trainable, bracket.sizes, spec.promotion)
        for rung, (_, size, tokens) in zip(rungs, steps, strict=True):
            rows.append(_rung(observation, rules, plan, bracket, rung, size, tokens, speeds or {}))
        whole = [replace(rung, layers=profile.layers) for rung in rungs]
        tokens_only += cost.full_flops(profile, cost.schedule_tokens(profile, whole, bracket.sizes, spec.promotion))
    return Forecast(
        plan=plan,
        rungs=tuple(rows),
        flops=sum(row.flops for row in rows),
        tokens_only=tokens_only,
        full=plan.trials * cost.full_flops(profile, plan.rungs[-1].tokens),
    )


def _rung(
    observation: Observation,
    rules: Placement,
    plan: Plan,
    bracket: Bracket,
    rung: Rung,
    size: int,
    tokens: int,
    speeds: Mapping[str, float],
) -> RungForecast:
    profile = observation.profile
    layers = rules.largest_layers(rung.layers)
    home = rules.home(rung.layers)
    slots = 1 if home is None else min(observation.spec.search.parallelism, home.slots)
    together = max(1, min(-(-size // max(1, slots)), observation.spec.search.max_trials_per_run))
    if not layers or not cost.packing_pays(profile, layers, together):
        together = 1
    else:
        while together > 1 and home is not None and not rules.fits(home, layers, together):
            together -= 1
    whole, rest = divmod(size, together)
    at = max(1, layers)
    flops = whole * cost.run_flops(profile, at, tokens, together) + (
        cost.run_flops(profile, at, tokens, rest) if rest else 0.0
    )
    seconds = flops / speeds[home.name] if home is not None and home.name in speeds else None
    price = 0.0 if home is None else price_per_second(observation.spec.budget, home.name)
    return RungForecast(
        bracket=bracket.index,
        rung=rung.index,
        asked_layers=rung.layers,
        layers=layers,
        tokens=rung.tokens,
        trials=size,
        together=together,
        memory_class=None if home is None else home.name,
        required_bytes=None
        if observation.memory is None or not layers
        else observation.memory.required(layers, None, together),
        parameters=profile.parameters[at - 1],
        flops=flops,
        seconds=seconds,
        cost=seconds * price if seconds is not None and price else None,
    )
