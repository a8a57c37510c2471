"""The whole network of a custom trial: its entrypoint is called up to `trial.freeze`, which hands over the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from frostline_trainer.checkpoints.checkpoint import copy_into, load_parents
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import RunSpec
from frostline_trainer.custom.entrypoint import Place, Trial, chain, load_entrypoint, seed_everything
from frostline_trainer.custom.turns import Turns
from frostline_trainer.errors import StudyFault, located
from frostline_trainer.models.cut import Suffix
from frostline_trainer.models.weights import estimate_statistics
from frostline_trainer.reporting.metrics import RunMetrics


class _Frozen(BaseException):
    """Leaves the entrypoint, past any `except Exception` of its own, once it has handed its model over."""


class _Export(Trial):
    state: dict[str, Tensor] | None = None

    def freeze(
        self, model: nn.Module | Sequence[nn.Module], statistics: Iterable[Tensor] = ()
    ) -> tuple[Callable[[Tensor], Tensor], Suffix]:
        """Keeps the model's tensors with the checkpoint's among them, in the names that the model gives them."""
        units = model if isinstance(model, nn.Module) else nn.Sequential(*model)
        network = chain(units)
        estimate_statistics(network.module(), list(statistics))
        assert self._saved is not None
        assert self._spec.parent is not None
        whole = network.split(network.layers).suffixes[0]
        copy_into(whole.state(), self._saved.weights, self._spec.parent.path)
        listed = isinstance(units, nn.Sequential)
        self.state = {_own_name(name, listed): tensor for name, tensor in whole.state_dict().items()}
        raise _Frozen


def _own_name(name: str, listed: bool) -> str:
    """`units.PLACE.NAME` as the model calls it: with the place where it is a list of units, else without."""
    return name.split(".", 1)[1] if listed else name.split(".", 2)[2]


def whole_state(spec: RunSpec) -> dict[str, Tensor]:
    """Every tensor of the model of a custom trial, frozen and trained.

    Raises:
        StudyFault: the entrypoint fails before it calls `trial.freeze`, or never calls it.
    """
    assert spec.model.entrypoint is not None
    function = load_entrypoint(spec.model.entrypoint)
    [own] = spec.trials
    assert own.parent is not None
    store = Store(spec.checkpoint)
    parents = load_parents(store, {own.name: own.parent.path})
    place = Place(store, RunMetrics(spec, spec.layers), lambda: False, Turns(1), parents)
    trial = _Export(spec, own, torch.device("cpu"), place)
    seed_everything(spec.seed)
    try:
        function(trial)
    except _Frozen:
        assert trial.state is not None
        return trial.state
    except StudyFault:
        raise
    except Exception as error:
        raise StudyFault(f"entrypoint {spec.model.entrypoint} raised {located(error)}") from error
    raise StudyFault(f"entrypoint {spec.model.entrypoint} returned without calling trial.freeze")
