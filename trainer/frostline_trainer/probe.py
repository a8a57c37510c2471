"""What a custom entrypoint costs at each z, by trying it out for one step.

Nothing is known of a custom model before its code runs. So it is called once per z, on the CPU, with a trial that
counts the FLOPs of the frozen prefix and of everything else, and that leaves as soon as the first step is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from frostline_trainer.contract import ModelProfile, ProfileSpec, RunSpec, TrialSpec
from frostline_trainer.entrypoint import Place, Trial, chain, load_entrypoint
from frostline_trainer.errors import StudyFault
from frostline_trainer.metrics import RunMetrics
from frostline_trainer.network import Suffix
from frostline_trainer.store import Store
from frostline_trainer.turns import Turns

_FAR = 1 << 40
"""Tokens that no first step reaches."""


class _Enough(BaseException):
    """Leaves the entrypoint after its first step, past any `except Exception` of its own."""


class _Probe(Trial):
    """A trial that only counts."""

    depth = 0
    """L, once `freeze` was called."""
    parameters = 0
    prefix_flops = 0
    step_tokens = 0

    def freeze(
        self, model: nn.Module | Sequence[nn.Module], statistics: Iterable[Tensor] = ()
    ) -> tuple[Callable[[Tensor], Tensor], Suffix]:
        """As `Trial.freeze`, with a prefix that is counted apart."""
        units = list(model) if not isinstance(model, nn.Module) else model
        self.depth = chain(units).layers
        prefix, suffix = super().freeze(units, statistics)
        self.parameters = sum(p.numel() for p in suffix.trainable().values())

        def counted(x: Tensor) -> Tensor:
            with FlopCounterMode(display=False) as counter:
                features = prefix(x)
            self.prefix_flops += counter.get_total_flops()
            return features

        return counted, suffix

    def report(self, tokens: int, **metrics: float) -> None:
        """The first step's end is all that is wanted."""
        if tokens > 0:
            self.step_tokens = tokens
            raise _Enough


def probe(spec: ProfileSpec) -> ModelProfile:
    """The profile of a custom entrypoint, per sample that it reports.

    Raises:
        StudyFault: the entrypoint cannot be imported, fails, never calls `trial.freeze`, or never reports a step.
    """
    assert spec.model.entrypoint is not None
    first, total = _step(spec, 1)
    parameters, prefix, suffix = [], [], []
    for z in range(1, first.depth + 1):
        trial, total = (first, total) if z == 1 else _step(spec, z)
        parameters.append(trial.parameters)
        prefix.append(trial.prefix_flops / trial.step_tokens)
        suffix.append((total - trial.prefix_flops) / trial.step_tokens)
    document = spec.model_dump_json() + torch.__version__
    return ModelProfile(
        hash=hashlib.sha256(document.encode()).hexdigest()[:16],
        layers=first.depth,
        unit="samples",
        parameters=parameters,
        prefix_flops=prefix,
        suffix_flops=suffix,
        step_tokens=first.step_tokens,
    )


def _step(spec: ProfileSpec, z: int) -> tuple[_Probe, int]:
    """One step at z, and the FLOPs of all of it."""
    assert spec.model.entrypoint is not None
    entrypoint = spec.model.entrypoint
    function = load_entrypoint(entrypoint)
    member = TrialSpec(name="probe", hyperparameters=spec.hyperparameters, training=spec.training)
    run = RunSpec(
        study="probe", study_uid="probe", run="probe", rung=0, layers=z, tokens=_FAR, horizon=_FAR, trials=[member],
        model=spec.model, data=spec.data, checkpoint="memory://probe",
    )  # fmt: skip
    place = Place(Store(run.checkpoint), RunMetrics(run, z), lambda: False, Turns(1))
    trial = _Probe(run, member, torch.device("cpu"), place)
    torch.manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        try:
            function(trial)
        except _Enough:
            pass
        except StudyFault:
            raise
        except Exception as error:
            raise StudyFault(f"entrypoint {entrypoint} raised {type(error).__name__}: {error}") from error
    if not trial.depth:
        raise StudyFault(f"entrypoint {entrypoint} returned without calling trial.freeze; it tells which layers train")
    if not trial.step_tokens:
        raise StudyFault(f"entrypoint {entrypoint} reported no step; call trial.report(tokens=...) after each one")
    return trial, counter.get_total_flops()
