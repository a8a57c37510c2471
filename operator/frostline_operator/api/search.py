"""How the space is searched, over which fidelities, for what goal, and within what budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from frostline_operator.api.quantity import Bytes, Duration
from frostline_trainer.contract import FieldPath, Scalar, Section

HEADROOM = 0.05
"""Of `placement.headroom`: enough for what the prediction cannot know, little enough not to waste a card."""


class Objective(Section):
    """What a good configuration is."""

    metric: Annotated[str, Field(min_length=1, max_length=63)] = "loss"
    """`loss`, `perplexity`, `accuracy` or `error` on held-out data; with `data.task: Regression` `loss`, `mse`, `rmse`,
    `mae` or `r2`; or a name that your entrypoint reports."""
    direction: Literal["Minimize", "Maximize"] = "Minimize"
    """Whether lower or higher values are better."""
    goal: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """A value at the highest rung that is good enough: reaching it ends the study."""


class SearchSpec(Section):
    """Which configurations are tried, and by which schedule they are dropped or promoted."""

    algorithm: Literal["SuccessiveHalving", "Hyperband", "ASHA"] = "ASHA"
    """SuccessiveHalving waits for a whole rung before promoting; its outcome does not depend on the order in which
    results arrive. Hyperband runs several such brackets, from many short trials to few long ones. ASHA promotes as soon
    as a trial is among the best 1/eta of its rung, so no GPU waits."""
    sampler: Literal["Random", "Sobol", "Grid", "Model"] = "Random"
    """How new configurations are drawn. Grid goes through all combinations (`gridPoints` per continuous range). Model
    learns from the study's results: a Gaussian process over all rungs proposes what is expected to do best at the
    highest one (algorithm ASHA only)."""
    grid_points: Annotated[int, Field(ge=2, le=1000)] = 5
    """Grid: points per range without a step."""
    initial: Annotated[list[dict[str, Scalar]], Field(max_length=1000)] = Field(default_factory=list)
    """Configurations to try first, such as the one used today. Parameters left out are sampled."""
    eta: Annotated[int, Field(ge=2, le=16)] = 2
    """One in eta trials is promoted, and each rung has eta times the tokens (and layers) of the one below."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Same seed, same study: sampling, initial weights and data order all derive from it."""
    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Configurations in the lowest rung (for Hyperband, of the widest bracket's). Without it, as many as the budget
    pays for."""
    parallelism: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Runs at a time."""
    max_trials_per_run: Annotated[int, Field(ge=1, le=16)] = 16
    """At most so many trials of a rung share one run and its frozen prefix. 1 turns packing off."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """A sampler that learns from results, with an algorithm that draws everything before the first result."""
        if self.sampler == "Model" and self.algorithm != "ASHA":
            text = f"Model proposes from results, and {self.algorithm} draws before there are any; set algorithm: ASHA"
            yield ("sampler",), text


class LayerRange(Section):
    """How many layers (z, counted from the output) train at the lowest and at the highest rung."""

    min: Annotated[int, Field(ge=1)] | Literal["All", "Half"] = "Half"
    """Lowest rung. `Half` is half of the highest rung's, rounded down: studies that began with fewer chose worse
    (docs/does-it-work.md), though they fit smaller GPUs. `All` trains every layer at every rung: classic halving over
    tokens only."""
    max: Annotated[int, Field(ge=1)] | Literal["All"] = "All"
    """Highest rung; `All` is the whole network."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """A range that descends."""
        if isinstance(self.min, int) and isinstance(self.max, int) and self.min > self.max:
            yield ("min",), f"must be at most max ({self.max}), got {self.min}; lower it"
        if self.min == "All" and self.max != "All":
            yield ("max",), "min: All trains every layer at every rung, so there is no other max; remove max"


class AmountRange(Section):
    """How many tokens (or samples) a trial has seen at the end of the lowest and of the highest rung."""

    max: Annotated[int, Field(ge=1)]
    """Highest rung: what you would train a configuration with today."""
    min: Annotated[int, Field(ge=1)] | Literal["All"] | None = None
    """Lowest rung. Without it there are as many rungs as the layers need (with `layers.min: Half`, as one layer
    would need), four at most. `All` gives every rung the same amount: halving over layers only."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """A range that descends."""
        if isinstance(self.min, int) and self.min > self.max:
            yield ("min",), f"must be at most max ({self.max}), got {self.min}; lower it"


class RungSpec(Section):
    """One explicit step of the schedule."""

    layers: Annotated[int, Field(ge=1)] | Literal["All"]
    """Trained at this rung, counted from the output."""
    tokens: Annotated[int, Field(ge=1)]
    """Tokens, or samples, that a trial has seen at this rung's end."""

    @property
    def depth(self) -> float:
        """The layers as a number; All is above every other."""
        return math.inf if self.layers == "All" else self.layers


class FidelitySpec(Section):
    """What grows from rung to rung: layers, and tokens (language models) or samples (images and tables)."""

    layers: LayerRange = Field(default_factory=LayerRange)
    tokens: AmountRange | None = None
    samples: AmountRange | None = None
    rungs: Annotated[list[RungSpec], Field(min_length=1, max_length=32)] | None = None
    """The schedule given step by step, instead of ranges."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """No schedule, two schedules, or rungs that do not ascend."""
        if self.rungs is None:
            if self.tokens is None and self.samples is None:
                yield (), "needs tokens (language models) or samples (images, tables), such as samples: {max: 100000}"
            elif self.tokens is not None and self.samples is not None:
                yield ("samples",), "tokens and samples are two units of one thing; keep the one your model is fed by"
            return
        for field in ("layers", "tokens", "samples"):
            if getattr(self, field) != (LayerRange() if field == "layers" else None):
                yield (field,), "rungs is the whole schedule; remove this, or remove rungs"
        for index, (low, high) in enumerate(itertools.pairwise(self.rungs)):
            path: FieldPath = ("rungs", index + 1)
            if high.tokens < low.tokens:
                yield (*path, "tokens"), f"must be at least {low.tokens}, as in the rung before, got {high.tokens}"
            if high.depth < low.depth:
                yield (*path, "layers"), f"must be at least {low.layers}, as in the rung before, got {high.layers}"
            if (high.depth, high.tokens) == (low.depth, low.tokens):
                yield path, "is the same as the rung before; remove one, or raise layers or tokens"


class TrustSpec(Section):
    """When a low rung is no longer believed: its ranking must agree with the next rung's."""

    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.3
    """Spearman rank correlation between adjacent rungs below which the study gets the condition FidelityUntrusted."""
    min_trials: Annotated[int, Field(ge=3, le=1000)] = 5
    """So many trials must have reached both rungs before the correlation counts."""
    on_untrusted: Literal["Report", "RaiseLowestRung"] = "Report"
    """RaiseLowestRung: new trials start one rung higher."""


class Price(Section):
    """What an hour on one GPU of a memory class costs."""

    memory_class: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the class: `8Gi`, `24Gi` and so on, or as declared under placement."""
    per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Of one GPU of the class, in any currency: the same one as in `cost`."""


def priced_twice(prices: Sequence[Price]) -> Iterator[tuple[int, str]]:
    """Which of the prices are of a class that has one already, and what to say of it."""
    names: set[str] = set()
    for index, price in enumerate(prices):
        if price.memory_class in names:
            yield index, f"{price.memory_class} has a price already; keep one"
        names.add(price.memory_class)


class BudgetSpec(Section):
    """Where the study stops. Any of the limits may be given; the first one reached counts, and none is overshot."""

    trials: Annotated[int, Field(ge=1)] | None = None
    """Configurations started."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens (or samples) trained on, over all trials."""
    gpu_seconds: Annotated[int, Field(ge=1)] | None = None
    """Seconds that runs hold a device, added up."""
    wall_clock: Duration | None = None
    """From the study's start to its end, all pauses included: it goes on while a study is suspended, stopped, or
    waits for room on a full disk."""
    cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """In the unit of `prices`."""
    prices: Annotated[list[Price], Field(max_length=64)] = Field(default_factory=list)
    """What `cost` is reckoned by. In a cluster, those of the operator's settings where none are given here."""
    on_exhausted: Literal["Finish", "Stop"] = "Finish"
    """Once spent, no run starts; running ones finish their rung, or are stopped with a checkpoint."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Two prices for one thing."""
        for index, message in priced_twice(self.prices):
            yield ("prices", index, "memoryClass"), message

    @property
    def unpriced(self) -> bool:
        """Whether a cost is given that nothing can be reckoned by."""
        return self.cost is not None and not self.prices


class PlacementSpec(Section):
    """How runs are matched to GPUs by memory."""

    headroom: Annotated[float, Field(ge=0, le=2)] | None = None
    """Share added to the predicted peak before it is compared with a GPU's usable memory. Where it is left out, what
    the operator's settings say, or 0.05."""
    overflow: bool = False
    """Let a run take a larger class when the smallest that fits is full. By default it waits, so that large cards stay
    free for high rungs and for others."""
    degrade: bool = False
    """Let a run take a smaller class with fewer layers when the fitting one is full. Such results are ranked among
    themselves only."""
    prefix_cache: Bytes = "0"
    """Host memory in which a run may keep the frozen prefix's output, so that later passes over the same data read it
    instead of computing it. It never changes a result. 0 turns it off."""
    prefix_cache_disk: Bytes = "0"
    """Local disk for what does not fit `prefixCache`."""
    usable_memory: Bytes | None = None
    """Of each GPU, instead of what is discovered; for tests and shared cards."""

    @property
    def margin(self) -> float:
        """The headroom that holds."""
        return HEADROOM if self.headroom is None else self.headroom
