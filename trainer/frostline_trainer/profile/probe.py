"""A custom entrypoint tried out for a step or two: what it costs at each z, and what it allocates.

Nothing is known of a custom model before its code runs. So it runs, with trials that look on and leave early: first on
tensors without content, which takes seconds for any size, and where the code does not put up with that, for real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ModelProfile, ProfileSpec, Reason, RunSpec, TrialResult, TrialSpec
from frostline_trainer.custom.entrypoint import Place, Trial, chain, load_entrypoint, raised, seed_everything
from frostline_trainer.custom.turns import Turns
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.models.cut import Suffix
from frostline_trainer.profile.knots import at_every_z
from frostline_trainer.profile.pretend import content_free
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
            raise StudyFault(f"entrypoint {entrypoint} raised {raised(error)}") from error
        except SystemExit as left:
            raise StudyFault(f"entrypoint {entrypoint} left with sys.exit({left.code}); return instead") from left

    turns.run([lambda probe=probe: evaluate(probe) for probe in probes])  # type: ignore[misc]
    first = probes[0]
    if not first.depth:
        raise StudyFault(f"entrypoint {entrypoint} returned without calling trial.freeze; it tells which layers train")
    if not first.step_tokens:
        raise StudyFault(f"entrypoint {entrypoint} reported no step; call trial.report(tokens=...) after each one")
    return first


def probe(spec: ProfileSpec) -> ModelProfile:
    """What a custom entrypoint costs, per sample that it reports.

    Raises:
        StudyFault: see `attempt`.
    """
    try:
        first, rows = _count(spec, _without_content)
    except Exception as error:  # noqa: BLE001 - whatever it is, the same for real tells whether it is the study's fault
        log("not-traceable", message=f"the entrypoint is tried for real: {error}")
        first, rows = _count(spec, _for_real)
    document = spec.model_dump_json() + torch.__version__
    return ModelProfile(
        hash=hashlib.sha256(document.encode()).hexdigest()[:16],
        layers=first.depth,
        unit="samples",
        parameters=[round(row[0]) for row in rows],
        prefix_flops=[row[1] for row in rows],
        suffix_flops=[row[2] for row in rows],
        step_tokens=first.step_tokens,
    )


def _count(
    spec: ProfileSpec, step: Callable[[ProfileSpec, int], tuple[ProbeTrial, int]]
) -> tuple[ProbeTrial, list[tuple[float, ...]]]:
    first, _ = step(spec, 1)

    def measure(z: int) -> tuple[float, ...]:
        trial, total = step(spec, z)
        own, rest = trial.prefix_flops, total - trial.prefix_flops
        return trial.parameters, own / trial.step_tokens, rest / trial.step_tokens

    return first, at_every_z(first.depth, measure)


def _without_content(spec: ProfileSpec, z: int) -> tuple[ProbeTrial, int]:
    """One step at z, and the FLOPs of all of it."""
    with content_free(MOST_OPERATORS) as hollow, sdpa_kernel(SDPBackend.MATH):
        return attempt(spec, z, flops=lambda: hollow.flops), hollow.flops


def _for_real(spec: ProfileSpec, z: int) -> tuple[ProbeTrial, int]:
    with FlopCounterMode(display=False) as counter:
        return attempt(spec, z, flops=counter.get_total_flops), counter.get_total_flops()


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
