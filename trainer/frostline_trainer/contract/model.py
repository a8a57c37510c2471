"""Which network is tuned: the section `model` of a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from frostline_trainer.contract.base import FieldPath, Section

Family = Literal["CausalLM", "Vision", "MLP", "Custom"]


class ModelSpec(Section):
    """The network to tune. Which fields apply depends on `family`."""

    family: Family
    """CausalLM: a causal language model of Hugging Face transformers; when it is built, the cut is compared with the
    whole model, and one that cannot be cut there is refused. Vision: a torchvision classifier. MLP: a plain multilayer
    perceptron. Custom: your own code, named by `entrypoint`."""
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Vision: the torchvision builder, such as `resnet18` or `vit_l_16`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """CausalLM: fields of the Hugging Face config, `model_type` first (for instance `model_type: gpt2`, `n_layer: 8`).
    Vision: keyword arguments of the torchvision builder. Custom: handed to the entrypoint as it is."""
    pretrained: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Path to weights to start from: a Hugging Face model folder, or hf://owner/model@revision from the hub (CausalLM),
    or a safetensors file (Vision, MLP).
    Without it the network starts from random weights drawn from the study's seed."""
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(max_length=1024)] = Field(default_factory=list)
    """MLP: widths of the hidden layers, input to output."""
    activation: Literal["relu", "gelu", "tanh", "silu"] = "relu"
    """MLP: activation between layers."""
    entrypoint: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=512)] | None = None
    """Custom: `package.module:function`, called with a `frostline_trainer.Trial`."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Fields that the family needs and does not have, or has and does not know."""
        if self.family == "CausalLM" and not (self.pretrained or "model_type" in self.config):
            text = "a CausalLM needs config.model_type (such as gpt2, with n_layer, n_embd, n_head) or pretrained"
            yield ("config",), text
        if self.family == "Vision" and not self.name:
            yield ("name",), "a Vision model needs name, a torchvision builder such as resnet18"
        if self.family == "MLP" and not self.hidden:
            yield ("hidden",), "an MLP needs hidden, the widths of its hidden layers, such as [256, 256, 256]"
        if self.family == "Custom" and not self.entrypoint:
            yield ("entrypoint",), "a Custom model needs entrypoint, written package.module:function"
        refused = _refused(self.config)
        if refused is not None:
            yield ("config",), refused
            return
        for field, families in _MODEL_FIELDS.items():
            if self.family not in families and getattr(self, field) != ModelSpec.model_fields[field].get_default(
                call_default_factory=True
            ):
                yield (
                    (field,),
                    f"{field} is for family {' or '.join(families)}, not for {self.family}; "
                    f"remove it or set family: {families[0]}",
                )


_MODEL_FIELDS: dict[str, tuple[Family, ...]] = {
    "name": ("Vision",),
    "config": ("CausalLM", "Vision", "Custom"),
    "pretrained": ("CausalLM", "Vision", "MLP"),
    "hidden": ("MLP",),
    "activation": ("MLP",),
    "entrypoint": ("Custom",),
}
"""Which families know a field."""

MAX_CONFIG_DEPTH, MAX_CONFIG_ENTRIES, MAX_CONFIG_CHARACTERS = 8, 10_000, 100_000
"""Bounds of `model.config`: levels of nesting, entries in all, characters of all names and texts."""
_CODE_FIELDS = frozenset({"trust_remote_code", "auto_map", "code_revision", "custom_pipelines"})
"""Fields by which transformers would load code that comes with a model."""


def _refused(config: dict[str, Any]) -> str | None:
    """Why `model.config` is refused as a whole; None where it is not. It recurses nowhere, however deep the input."""
    level: list[Any] = [config]
    entries = characters = 0
    for _ in range(MAX_CONFIG_DEPTH):
        inner: list[Any] = []
        for value in level:
            for key, part in value.items() if isinstance(value, dict) else ((None, part) for part in value):
                entries += 1
                characters += len(key) if isinstance(key, str) else 0
                characters += len(part) if isinstance(part, str) else 0
                if key in _CODE_FIELDS:
                    return f"{key} would run code that comes with the model, which is not done; remove it"
                if isinstance(key, str) and key.endswith("attn_implementation") and "/" in str(part):
                    return f"{key}: {part} would run code from the hub, which is not done; use sdpa or eager"
                if isinstance(part, dict | list):
                    inner.append(part)
        if entries > MAX_CONFIG_ENTRIES:
            return f"has more than {MAX_CONFIG_ENTRIES} entries; put the weights' folder into pretrained instead"
        if characters > MAX_CONFIG_CHARACTERS:
            return f"has more than {MAX_CONFIG_CHARACTERS} characters; shorten it"
        if not inner:
            return None
        level = inner
    return f"is nested deeper than {MAX_CONFIG_DEPTH} levels; flatten it"
