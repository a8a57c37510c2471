"""A network as an ordered list of units, cut into one frozen prefix and K trainable suffixes.

Units are counted from the input; `z` counts them from the output. `Network.split(z, copies)` hands out the first L - z
units once, frozen, and the last z units `copies` times, each copy with weights of its own. The prefix runs in
evaluation mode without autograd, so nothing of it is kept for a backward pass.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from frostline_trainer.errors import StudyFault


class Suffix(nn.Module, abc.ABC):
    """The last z units of a network with weights of their own: features at the cut to logits."""

    @abc.abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Logits `[batch, ..., classes]` from what the prefix hands over (at z = L: from the network's input)."""

    @abc.abstractmethod
    def owned(self) -> Iterator[tuple[str, nn.Module]]:
        """The trainable modules with their names in the whole network, which do not depend on z."""

    @abc.abstractmethod
    def checkpoint_activations(self) -> None:
        """From now on recompute each unit's activations in the backward pass instead of keeping them."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, each once even where two modules share it."""
        parameters: dict[str, nn.Parameter] = {}
        counted: set[int] = set()
        for prefix, module in self.owned():
            for name, parameter in module.named_parameters(prefix=prefix):
                if parameter.requires_grad and id(parameter) not in counted:
                    counted.add(id(parameter))
                    parameters[name] = parameter
        return parameters

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the weights: trainable parameters and the owned modules' persistent buffers."""
        state: dict[str, Tensor] = dict(self.trainable())
        trained = {id(tensor) for tensor in state.values()}
        for prefix, module in self.owned():
            held = module.state_dict(prefix=prefix and prefix + ".", keep_vars=True)
            state |= {n: t for n, t in held.items() if id(t) not in trained and not isinstance(t, nn.Parameter)}
        return state

    def train(self, mode: bool = True) -> Suffix:
        """Training mode for what is trained; all else of the network, where the suffix carries any, stays as it is."""
        for _, module in self.owned():
            module.train(mode)
        return self


@dataclass(frozen=True)
class Split:
    """A network cut at z."""

    prefix: nn.Module | None
    """First L - z units, frozen and in evaluation mode; None at z = L."""
    suffixes: list[Suffix]


class Network(abc.ABC):
    """A built network, complete and on one device, before it is cut."""

    unit_names: tuple[str, ...]
    """Names of the units, input to output."""

    @property
    def layers(self) -> int:
        """L: number of units."""
        return len(self.unit_names)

    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The whole network as one module, input to logits."""

    @abc.abstractmethod
    def split(self, z: int, copies: int = 1, *, untied: Sequence[bool] | None = None) -> Split:
        """Cut so that the last `z` units train, in `copies` suffixes that share nothing but the prefix.

        The network gives itself up: the last suffix takes the built weights over instead of copying them, so one
        suffix costs no more memory than the network did. Afterwards the network is good for one thing only: to be cut
        again below full depth, when what the last cut gave out is not used any more.

        Args:
            z: trainable units, 1 to L.
            copies: number of suffixes.
            untied: per copy, whether shared input and output embeddings become separate at z = L as well. Below full
                z they always do, else the backward pass would have to reach the frozen embedding.

        Raises:
            StudyFault: z is not in 1..L.
        """

    def check(self, z: int) -> None:
        """Raise `StudyFault` unless z is in 1..L."""
        if not 1 <= z <= self.layers:
            raise StudyFault(
                f"layers: {z} trainable layers asked for, but this model has {self.layers} "
                f"({', '.join(self.unit_names[:3])}, … {self.unit_names[-1]}); give 1 to {self.layers}"
            )


def freeze(module: nn.Module) -> nn.Module:
    """Evaluation mode for good and no gradients: dropout is off and batch norm's statistics stay as they are."""
    module.requires_grad_(False)
    return module.eval()


def in_bf16(module: nn.Module | None) -> nn.Module | None:
    """The module (in place) with its parameters in bf16; None is given back.

    Buffers stay as they are: they are few, and some are exact for a reason. A rotary embedding's frequencies in bf16
    are off by radians at the end of a long sequence. Batch norms stay in fp32 whole, as kernels want theirs alike.
    """
    if module is None:
        return None
    for part in module.modules():
        if not isinstance(part, nn.modules.batchnorm._BatchNorm):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)
    return module


# --- networks that are a plain chain of units -------------------------------------------------------------------------


class Chain(nn.Module):
    """Units called one after the other, each handing one tensor to the next."""

    def __init__(self, units: Sequence[nn.Module], first: int = 0):
        super().__init__()
        self.units = nn.ModuleDict({str(first + i): unit for i, unit in enumerate(units)})

    def forward(self, x: Tensor) -> Tensor:
        """Output of the last unit."""
        for unit in self.units.values():
            x = unit(x)
        return x


class ChainSuffix(Suffix):
    """The last z units of a `ChainNetwork`."""

    def __init__(self, units: Sequence[nn.Module], first: int):
        super().__init__()
        self.units = nn.ModuleDict({str(first + i): unit for i, unit in enumerate(units)})
        self._recompute = False
        self.requires_grad_(True)
        for module in units[0].modules():  # the features are shared and cached: nobody may overwrite them
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]

    def forward(self, features: Tensor) -> Tensor:
        """Logits from the features at the cut."""
        for unit in self.units.values():
            if self._recompute and self.training:
                features = checkpoint(unit, features, use_reentrant=False)
            else:
                features = unit(features)
        return features

    def owned(self) -> Iterator[tuple[str, nn.Module]]:
        """All units, named by their place counted from the input."""
        for index, unit in self.units.items():
            yield f"units.{index}", unit

    def checkpoint_activations(self) -> None:
        """Recompute every unit in the backward pass."""
        self._recompute = True

    def train(self, mode: bool = True) -> ChainSuffix:
        """Training mode for all of it."""
        self.training = mode
        super().train(mode)
        return self


class ChainNetwork(Network):
    """A network whose units are modules from one tensor to one tensor."""

    def __init__(self, units: Sequence[tuple[str, nn.Module]]):
        self.unit_names = tuple(name for name, _ in units)
        self._units = [unit for _, unit in units]

    def module(self) -> nn.Module:
        """All units in one chain."""
        return Chain(self._units)

    def split(self, z: int, copies: int = 1, *, untied: Sequence[bool] | None = None) -> Split:
        """See `Network.split`; a chain has nothing tied."""
        self.check(z)
        cut = self.layers - z
        prefix = freeze(Chain(self._units[:cut])) if cut else None
        rest = self._units[cut:]
        suffixes: list[Suffix] = [ChainSuffix(copy.deepcopy(rest), cut) for _ in range(copies - 1)]
        return Split(prefix, [*suffixes, ChainSuffix(rest, cut)])


def run_prefix(prefix: nn.Module | None, x: Tensor) -> Tensor:
    """The prefix's output for a batch, without autograd; the batch itself where there is no prefix."""
    if prefix is None:
        return x
    with torch.no_grad():
        features = prefix(x)
    assert isinstance(features, Tensor)
    return features
