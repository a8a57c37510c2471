"""A short run of a custom entrypoint: its trials count what it costs and allocates, and end after a step or two.

Nothing is known of a custom model before its code runs. `custom_costs` and `custom_memory` call `attempt` on tensors
without content, which takes seconds for any size, and where the code cannot run on these, for real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ProfileSpec, Reason, RunSpec, TrialResult, TrialSpec
from frostline_trainer.custom.entrypoint import Place, Trial, chain, load_entrypoint, seed_everything
from frostline_trainer.custom.turns import Turns
from frostline_trainer.errors import StudyFault, located
from frostline_trainer.models.cut import Suffix
from frostline_trainer.reporting.metrics import RunMetrics

FAR = 1 << 40
"""Tokens that no first step reaches."""
MOST_OPERATORS = 2_000_000
"""Of one try on tensors without content, where a loop that waits for a value would never end: minutes."""
OVERTIME = 4
"""Times its tokens that a try may report before it is sent home."""


class Enough(BaseException):
    """Leaves the entrypoint, past any `except Exception` of its own."""


class ProbeTrial(Trial):
    """A trial that only looks on, and leaves after its first step or once its tokens are evaluated."""

    depth = 0
    """L, once `freeze` was called."""
    convolutional = False
    parameters = 0
    frozen_bytes = 0
    """Of the prefix, which the trials of a run share."""
    prefix_flops = 0
    step_tokens = 0
    """Of the first step; 0 before it is reported."""
    held = 0
    """Most bytes held at the end of a step, the prefix excluded: what another trial would hold as well."""
    flops: Callable[[], int] = staticmethod(lambda: 0)
    """FLOPs so far."""
    live: Callable[[], int] = staticmethod(lambda: 0)
    """Bytes held at this moment."""

    def freeze(
        self, model: nn.Module | Sequence[nn.Module], statistics: Iterable[Tensor] = ()
    ) -> tuple[Callable[[Tensor], Tensor], Suffix]:
        """As `Trial.freeze`, with a prefix that is counted apart."""
        units = list(model) if not isinstance(model, nn.Module) else model
        whole = chain(units)
        self.depth = whole.layers
        self.convolutional = any(isinstance(m, nn.modules.conv._ConvNd) for m in whole.module().modules())
        everything = _bytes(whole.module())
        prefix, suffix = super().freeze(units, statistics)
        self.parameters = sum(p.numel() for p in suffix.trainable().values())
        self.frozen_bytes = everything - _bytes(suffix)

        def counted(x: Tensor) -> Tensor:
            before = self.flops()
            features = prefix(x)
            self.prefix_flops += self.flops() - before
            return features

        return counted, suffix

    def report(self, tokens: int, **metrics: float) -> None:
        """Notes what is held, and says when it is enough."""
        if tokens <= 0:
            return
        self._seen = tokens
        self.step_tokens = self.step_tokens or tokens
        self.held = max(self.held, self.live() - self.frozen_bytes)
        if self.tokens == FAR or (metrics and tokens >= self.tokens) or tokens >= OVERTIME * self.tokens:
            raise Enough

    def _result(self, reason: Reason) -> TrialResult:
        raise AssertionError("a trial that looks on has no result")


def attempt(
    spec: ProfileSpec,
    z: int,
    *,
    tokens: int = FAR,
    batch: int | None = None,
    trials: int = 1,
    device: torch.device | None = None,
    flops: Callable[[], int] = lambda: 0,
    live: Callable[[], int] = lambda: 0,
) -> ProbeTrial:
    """Call the entrypoint at z, for as many trials as a run would hold; the first of them is returned.

    Args:
        spec: of the profile.
        z: trainable layers.
        tokens: to train and evaluate; by default it is left after the first step.
        batch: samples per micro-batch, in the place of the specification's.
        trials: K.
        device: where to compute; the CPU by default.
        flops: FLOPs so far.
        live: bytes held at this moment.

    Raises:
        StudyFault: the entrypoint cannot be imported, fails, never calls `trial.freeze`, or never reports a step.
    """
    assert spec.model.entrypoint is not None
    entrypoint = spec.model.entrypoint
    function = load_entrypoint(entrypoint)
    training = spec.training if batch is None else spec.training.model_copy(update={"batch_size": batch})
    members = [
        TrialSpec(name=f"probe-{i}", hyperparameters=spec.hyperparameters, training=training) for i in range(trials)
    ]
    run = RunSpec(
        study="probe", study_uid="probe", run="probe", rung=0, layers=z, tokens=tokens, horizon=FAR, trials=members,
        model=spec.model, data=spec.data, checkpoint="memory://probe",
    )  # fmt: skip
    turns = Turns(trials)
    place = Place(Store(run.checkpoint), RunMetrics(run, z), lambda: False, turns)
    probes = [ProbeTrial(run, member, device or torch.device("cpu"), place) for member in members]

    def evaluate(probe: ProbeTrial) -> None:
        probe.flops, probe.live = flops, live
        seed_everything(0)
        try:
            probe._call(function)
        except Enough:
            pass
        except (StudyFault, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise StudyFault(f"entrypoint {entrypoint} raised {located(error)}") from error
        except SystemExit as left:
            raise StudyFault(f"entrypoint {entrypoint} left with sys.exit({left.code}); return instead") from left

    turns.run([lambda probe=probe: evaluate(probe) for probe in probes])  # type: ignore[misc]
    first = probes[0]
    if not first.depth:
        raise StudyFault(f"entrypoint {entrypoint} returned without calling trial.freeze; it tells which layers train")
    if not first.step_tokens:
        raise StudyFault(f"entrypoint {entrypoint} reported no step; call trial.report(tokens=...) after each one")
    return first


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
