"""Hugging Face causal language models cut between two blocks.

Nothing of an architecture is written down here. The model's *own* forward runs, with the blocks that are not ours
swapped for pass-throughs that hand the hidden state on; masks, rotary embeddings, scalings and soft caps are therefore
those of the model itself. Where blocks need more than the hidden state, a cut is not the model: each is therefore held
against it before training, and refused. Units, input to output: embeddings, every block, and final norm with head, so
L = blocks + 2.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.hub import local_folder
from frostline_trainer.models.cut import Network, Split, Suffix, freeze, run_prefix
from frostline_trainer.seeds import derive


def build_causal_lm(model: ModelSpec, shape: DataShape, seed: int, *, weights: bool = True) -> CausalLMNetwork:
    """A Hugging Face model from a config (random weights from the seed) or from a folder.

    `vocab_size` and the longest sequence default to what the data needs.

    Raises:
        StudyFault: unknown architecture, a field that its config rejects, an encoder, a vocabulary or context too small
            for the data, or a folder without weights.
    """
    import transformers

    if shape.kind != "Text":
        raise StudyFault(f"data.kind: a CausalLM takes Text, not {shape.kind}; set data.kind: Text")
    transformers.utils.logging.disable_progress_bar()
    config = _pretrained_config(model) if model.pretrained else _config(model, shape)
    _check_decoder(config)
    _check_fits(config, shape)
    torch.manual_seed(derive(seed, "weights"))
    try:
        if model.pretrained and weights:
            built = transformers.AutoModelForCausalLM.from_pretrained(
                local_folder(model.pretrained, "model.pretrained"),
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
        else:
            built = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except (ValueError, OSError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise StudyFault(f"model.config: {type(config).__name__} cannot be built: {_short(error)}") from error
    return CausalLMNetwork(built, verified=weights)


def _pretrained_config(model: ModelSpec) -> Any:
    """The config of a folder, read by transformers itself, with the manifest's fields in the place of the folder's."""
    from transformers import AutoConfig

    assert model.pretrained is not None
    folder = local_folder(model.pretrained, "model.pretrained")
    if not Path(folder).is_dir():
        raise StudyFault(
            f"model.pretrained: no folder {folder}; give one written by save_pretrained, or hf://owner/model"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, TypeError, KeyError, AttributeError) as error:
        raise StudyFault(f"model.pretrained: {model.pretrained} has no usable config: {_short(error)}") from error
    fields = dict(model.config)
    kind = fields.pop("model_type", config.model_type)
    if kind != config.model_type:
        raise StudyFault(
            f"model.config.model_type: {model.pretrained} is a {config.model_type}, not a {kind}; remove the field"
        )
    _check_fields(fields, config)
    try:
        config.update({**fields, "use_cache": False})
    except Exception as error:
        raise StudyFault(f"model.config: {kind} rejects these fields: {_short(error)}") from error
    return config


def _config(model: ModelSpec, shape: DataShape) -> Any:
    """The config that the manifest's fields describe."""
    from transformers import AutoConfig

    fields = dict(model.config)
    kind = fields.pop("model_type")
    fields.setdefault("vocab_size", shape.classes)
    try:
        config = AutoConfig.for_model(kind)
    except (ValueError, KeyError) as error:
        raise StudyFault(
            f"model.config.model_type: {kind!r} is no architecture of the installed transformers: {_short(error)}"
        ) from error
    _check_fields(fields, config)
    positions = {"n_positions", "max_position_embeddings"} & {*vars(config), *config.attribute_map}
    if positions and not positions & set(fields):
        longest = getattr(config, "max_position_embeddings", 0) or 0
        fields["max_position_embeddings"] = max(longest, shape.input[0])
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(config, token, None)
        if token not in fields and isinstance(value, int) and value >= fields["vocab_size"]:
            fields[token] = None
    try:
        return AutoConfig.for_model(kind, **{**fields, "use_cache": False})
    except Exception as error:
        raise StudyFault(f"model.config: {kind} rejects these fields: {_short(error)}") from error


def _check_fields(fields: dict[str, Any], config: Any) -> None:
    """Fields that the architecture's config does not have, which transformers would take without a word."""
    kind = type(config)
    names = {
        n
        for n in [*vars(config), *config.attribute_map]
        if not n.startswith("_") and not callable(getattr(kind, n, None))
    }
    unknown = sorted(set(fields) - names)
    if unknown:
        raise StudyFault(
            f"model.config: {', '.join(unknown)} unknown to {config.model_type}; it knows "
            f"{', '.join(sorted(names))[:500]}"
        )


def _check_decoder(config: Any) -> None:
    """Refuses an encoder, whose every position sees the tokens that it is to foretell.

    Some decoders have `is_decoder: false` in their configs as well and do not look at it; they are no masked language
    models. What a network does is checked by itself where its weights are there (`CausalLMNetwork`).
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    encoder = getattr(config, "is_decoder", None) is False and not config.is_encoder_decoder
    if encoder and config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise StudyFault(
            f"model.config.is_decoder: {config.model_type} is an encoder, which sees the tokens that it is to "
            "foretell; set model.config.is_decoder: true, or take a decoder such as gpt2 or llama"
        )


def _check_fits(config: Any, shape: DataShape) -> None:
    symbols = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    if isinstance(symbols, int) and symbols < shape.classes:
        raise StudyFault(
            f"model.config.vocab_size: {symbols} is smaller than the tokenizer's {shape.classes} symbols; "
            f"set it to {shape.classes} or more"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if isinstance(longest, int) and longest < shape.input[0]:
        raise StudyFault(
            f"training.sequenceLength: {shape.input[0]} exceeds the model's {longest} positions; lower it, or raise "
            "model.config.max_position_embeddings (n_positions)"
        )


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


@contextlib.contextmanager
def whole_sequences() -> Iterator[None]:
    """Tell transformers that every row of a batch is one sequence.

    It would find out by itself, but by looking at values: a device synchronisation per forward pass, and an error on
    tensors without content.
    """
    from transformers import masking_utils

    asked = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = asked


def _no_warning(*_: object) -> None:
    """In place of a check for padding that looks at values too; our batches are never padded."""


class PassThrough(nn.Module):
    """Stands where a block stood and hands the hidden state on, or the features it was given in its stead."""

    def __init__(self, block: nn.Module, outputs: int):
        super().__init__()
        self.features: Tensor | None = None
        self._outputs = outputs
        for name, value in vars(block).items():  # some models ask their blocks, say, for `attention_type`
            if not name.startswith("_") and name != "training" and isinstance(value, str | int | float):
                setattr(self, name, value)

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor | tuple[Tensor | None, ...]:
        """The features set, else the hidden state, in the form in which this model's blocks answer."""
        hidden = hidden_states if self.features is None else self.features
        return (hidden, *[None] * (self._outputs - 1)) if self._outputs else hidden


class Entering(PassThrough):
    """The first block, where it is ours: it takes the features instead of what the model hands it."""

    def __init__(self, block: nn.Module, outputs: int):
        super().__init__(block, outputs)
        self.block = block

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Any:
        """The block's output for the features set."""
        return self.block(hidden_states if self.features is None else self.features, *args, **kwargs)


class CausalLMPrefix(nn.Module):
    """Embeddings and the frozen blocks: token ids `[batch, length]` to the hidden state `[batch, length, width]`."""

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base

    def forward(self, ids: Tensor) -> Tensor:
        """Hidden state that enters the first trainable unit."""
        with whole_sequences():
            hidden = self.base(input_ids=ids, use_cache=False).last_hidden_state
        assert isinstance(hidden, Tensor)
        return hidden


class CausalLMSuffix(Suffix):
    """The last blocks, norm and head inside the model's own forward."""

    def __init__(self, model: nn.Module, entry: PassThrough | None, owned: Sequence[tuple[str, nn.Module]], width: int):
        super().__init__()
        self.model = model
        self._entry = [entry]  # in a list, so that it is not registered a second time
        self._owned = list(owned)
        self._width = width

    def forward(self, features: Tensor) -> Tensor:
        """Logits `[batch, length, vocabulary]`, from hidden states or, at z = L, from token ids."""
        entry = self._entry[0]
        with whole_sequences():
            if entry is None:
                logits = self.model(input_ids=features, use_cache=False).logits
            else:
                entry.features = features
                blank = features.new_zeros(()).expand(*features.shape[:2], self._width)
                logits = self.model(inputs_embeds=blank, use_cache=False).logits
                entry.features = None
        assert isinstance(logits, Tensor)
        return logits

    def owned(self) -> Iterator[tuple[str, nn.Module]]:
        """Blocks, norm and head under their names in the Hugging Face model."""
        yield from self._owned

    def checkpoint_activations(self) -> None:
        """Recompute every block in the backward pass, by the model's own means."""
        model: Any = self.model
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable({"use_reentrant": False})
        else:  # its name in earlier releases
            model.gradient_checkpointing_enable({"use_reentrant": False})


PROBED_TOKENS = 8
"""Length of the sequence on which a cut is held against the whole model."""
AGREEMENT = 1e-5
"""Largest difference of logits, as a share of the largest, that rounding may make: a right cut does the very same
operations. Random weights are small, so what a wrong one leaves out may be small as well."""


class CausalLMNetwork(Network):
    """A Hugging Face causal language model and where it can be cut.

    Args:
        model: with its weights.
        verified: whether each cut is held against the whole model in a tiny forward pass. Not for tensors without
            content, which compute nothing.

    Raises:
        StudyFault: no list of blocks, or a model that lets positions see the tokens that follow them.
    """

    def __init__(self, model: Any, *, verified: bool = False):
        self._model = model.eval()
        if hasattr(model, "warn_if_padding_and_no_attention_mask"):
            model.warn_if_padding_and_no_attention_mask = _no_warning
            model.base_model.warn_if_padding_and_no_attention_mask = _no_warning
        self._blocks_name, blocks = _find_blocks(model)
        self._blocks = list(blocks)
        self._outputs = 0
        before, after = self._probe()
        owner = {id(m): name for name, m in model.named_modules()}
        self._tail = [(owner[id(m)], m) for m in after]
        self._front = [(owner[id(m)], m) for m in before]
        self._width = int(model.get_input_embeddings().embedding_dim)
        self.unit_names = ("embeddings", *(f"block{i}" for i in range(len(self._blocks))), "head")
        self._expected = self._logits() if verified else None

    def module(self) -> nn.Module:
        """The Hugging Face model; its output has `.logits`."""
        module = self._model
        assert isinstance(module, nn.Module)
        return module

    def _probe(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Which modules with weights run before the blocks and which after, learnt from one tiny forward pass.

        Only the first block really runs; its answer also shows whether blocks give a tensor or a tuple.
        """
        before: list[nn.Module] = []
        after: list[nn.Module] = []
        phase = before

        def note(module: nn.Module, *_: object) -> None:
            weighty = any(True for _ in module.parameters(recurse=False))
            if (weighty or phase is after) and not any(module is other for other in before + after):
                phase.append(module)  # a final norm may have no weights, and is no part of the prefix all the same

        def first_block_done(_module: nn.Module, _args: object, output: object) -> None:
            nonlocal phase
            self._outputs = len(output) if isinstance(output, tuple) else 0
            phase = after

        inside = {id(m) for block in self._blocks for m in block.modules()}
        handles = [
            module.register_forward_pre_hook(note)
            for module in self._model.modules()
            if id(module) not in inside
            and (any(True for _ in module.parameters(recurse=False)) or not any(True for _ in module.children()))
        ]
        handles.append(self._blocks[0].register_forward_hook(first_block_done))
        blocks = self._model.get_submodule(self._blocks_name)
        try:
            for i in range(1, len(self._blocks)):
                blocks[i] = _Mimic(self._blocks[i], self)
            with torch.no_grad(), whole_sequences():
                self._model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=self._device()), use_cache=False)
        finally:
            for i, block in enumerate(self._blocks):
                blocks[i] = block
            for handle in handles:
                handle.remove()
        return before, after

    def _device(self) -> torch.device:
        return next(iter(self._model.parameters())).device  # type: ignore[no-any-return]

    def split(self, z: int, copies: int = 1, *, untied: Sequence[bool] | None = None) -> Split:
        """See `Network.split`."""
        self.check(z)
        if z == self.layers:
            flags = list(untied or [False] * copies)
            models = [copy.deepcopy(self._model) for _ in range(copies - 1)] + [self._model]
            return Split(None, [self._whole(model, flag) for model, flag in zip(models, flags, strict=True)])
        if self._expected is None:
            return self._cut(z, copies)
        fault = self._disagreement(z)
        if fault is not None:
            right = [other for other in range(1, self.layers) if other != z and self._disagreement(other) is None]
            raise StudyFault(
                f"model.config.model_type: {self._model.config.model_type} cannot be cut at {z} trainable layers: "
                f"{fault}; set fidelity.layers to {', '.join(map(str, [*right, self.layers]))}"
            )
        return self._cut(z, copies)

    def _logits(self) -> Tensor:
        """The whole model's answer to a short sequence, after a look at whether it is causal at all."""
        ids = self._ids()
        with torch.no_grad(), whole_sequences():
            expected: Tensor = self._model(input_ids=ids, use_cache=False).logits
            other = ids.clone()
            other[:, -1] = (other[:, -1] + 1) % self._model.get_input_embeddings().num_embeddings
            changed = self._model(input_ids=other, use_cache=False).logits
        if not _close(changed[:, :-1], expected[:, :-1]):
            raise StudyFault(
                f"model.config: {self._model.config.model_type} lets positions see the tokens that follow them, which "
                "it is to foretell; set model.config.is_decoder: true, or take a decoder such as gpt2 or llama"
            )
        return expected

    def _ids(self) -> Tensor:
        symbols = int(self._model.get_input_embeddings().num_embeddings)
        return (torch.arange(PROBED_TOKENS, device=self._device()) * 7 + 3)[None] % symbols

    def _disagreement(self, z: int) -> str | None:
        """What is wrong with the cut at z; None where prefix and suffix together are the model."""
        frozen = self.layers - z - 1
        held = {id(p) for block in self._blocks[:frozen] for p in block.parameters()}
        if any(id(p) in held for block in self._blocks[frozen:] for p in block.parameters()):
            return "blocks before and behind the cut share their weights"
        try:
            split = self._cut(z, 1)
            with torch.no_grad():
                logits = split.suffixes[0].eval()(run_prefix(split.prefix, self._ids()))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - models fail in as many ways as there are models
            return f"what is behind the cut does not run by itself ({type(error).__name__}: {_short(error)[:150]})"
        assert self._expected is not None
        if not _close(logits, self._expected):
            return "what is behind the cut needs more than the hidden state at it, so its output is not the model's"
        return None

    def _cut(self, z: int, copies: int) -> Split:
        """Prefix and suffixes below full depth."""
        frozen = self.layers - z - 1  # blocks in the prefix; the embeddings are in it too
        shared = {id(m): freeze(m) for _, m in self._front}
        self._untie(self._tail)
        names = [f"{self._blocks_name}.{i}" for i in range(len(self._blocks))]
        owned = [*zip(names[frozen:], self._blocks[frozen:], strict=True), *self._tail]
        for _, module in owned:
            module.requires_grad_(True)

        memo: dict[int, Any] = dict(shared)
        memo |= {id(b): freeze(b) for b in self._blocks[:frozen]}
        memo |= {id(b): PassThrough(b, self._outputs) for b in self._blocks[frozen:]}
        memo |= {id(m): nn.Identity() for _, m in self._tail}
        base = copy.deepcopy(self._model.base_model, memo)
        prefix = freeze(CausalLMPrefix(base))

        suffixes: list[Suffix] = []
        for number in range(copies):
            memo = dict(shared)
            memo |= {id(b): PassThrough(b, self._outputs) for b in self._blocks[:frozen]}
            if number == copies - 1:
                memo |= {id(m): m for _, m in owned}
            model = copy.deepcopy(self._model, memo).eval()
            blocks = model.get_submodule(self._blocks_name)
            mine = [(name, model.get_submodule(name)) for name, _ in owned]
            if frozen:
                entry = blocks[frozen - 1]
            else:
                entry = blocks[0] = Entering(blocks[0], self._outputs)
            suffixes.append(CausalLMSuffix(model, entry, mine, self._width))
        return Split(prefix, suffixes)

    def _whole(self, model: Any, untied: bool) -> Suffix:
        tail = [(name, model.get_submodule(name)) for name, _ in self._tail]
        if untied:
            front = {id(p) for name, _ in self._front for p in model.get_submodule(name).parameters()}
            _give_own_weights(tail, front)
        model.requires_grad_(True)
        return CausalLMSuffix(model, None, [("", model)], self._width)

    def untie(self) -> None:
        """Give the head weights of its own where it shares the embeddings', and say so in the config."""
        self._untie(self._tail)
        self._model.config.tie_word_embeddings = False

    def _untie(self, tail: Sequence[tuple[str, nn.Module]]) -> None:
        _give_own_weights(tail, {id(p) for _, m in self._front for p in m.parameters()})


def _close(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool((one - two).abs().max() <= AGREEMENT * two.abs().max())


class _Mimic(PassThrough):
    """A pass-through that learns from the network, while it is probed, in which form blocks answer."""

    def __init__(self, block: nn.Module, network: CausalLMNetwork):
        super().__init__(block, 0)
        self._network = [network]

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor | tuple[Tensor | None, ...]:
        self._outputs = self._network[0]._outputs
        return super().forward(hidden_states, *args, **kwargs)


def _give_own_weights(modules: Sequence[tuple[str, nn.Module]], others: set[int]) -> None:
    """Replace every parameter of `modules` that others use too by a copy of its own."""
    for _, module in modules:
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in others:
                setattr(module, name, nn.Parameter(parameter.detach().clone()))


def _find_blocks(model: Any) -> tuple[str, nn.ModuleList]:
    """The list of blocks: the module list that holds most of the weights."""
    best, name, size = None, "", 0
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(
            isinstance(outer, nn.ModuleList) for outer in _ancestors(model, path)
        ):
            held = sum(p.numel() for p in module.parameters())
            if held > size:
                best, name, size = module, path, held
    if best is None:
        raise StudyFault(
            f"model.config.model_type: {model.config.model_type} has no list of blocks that could be cut; "
            "use a decoder-only architecture such as gpt2, gpt_neox, llama or qwen2"
        )
    return name, best


def _ancestors(model: nn.Module, path: str) -> Iterator[nn.Module]:
    parts = path.split(".")[:-1]
    for end in range(1, len(parts) + 1):
        yield model.get_submodule(".".join(parts[:end]))
