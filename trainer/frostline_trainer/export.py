"""A trained trial as files that the library it comes from reads: the frozen part and the trained one put together.

A checkpoint holds the trainable layers only. What a run would start with is built here once more, the trial's layers
on the frozen prefix, and written whole: a Hugging Face folder for language models, safetensors and a description for
torchvision's networks and MLPs, a state dict in the person's own names for custom code.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pydantic
import torch
from safetensors.torch import save_file
from torch import Tensor

from frostline_trainer.checkpoints.checkpoint import Checkpoint, DamageError, copy_into, load_parents
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import RunSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.data.source import Source
from frostline_trainer.errors import CheckpointsLost, StudyFault
from frostline_trainer.hub import local_folder
from frostline_trainer.logs import log
from frostline_trainer.models.build import build_network
from frostline_trainer.training.pack import Pack, build_pack

WEIGHTS = "model.safetensors"
DESCRIPTION = "config.json"


def export(spec: RunSpec, folder: Path) -> list[str]:
    """Write the one trial of a run document, as its parent checkpoint left it.

    Args:
        spec: with one trial, whose `parent` is the checkpoint.
        folder: made if it is not there.

    Returns:
        Names of the files.

    Raises:
        StudyFault: the checkpoint, the data or the network cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if spec.model.family == "Custom":
        from frostline_trainer.custom.export import whole_state

        save_file(_plain(whole_state(spec)), folder / WEIGHTS)
    elif spec.model.family == "CausalLM":
        _language_model(spec, folder)
    else:
        _classifier(spec, folder)
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _saved(spec: RunSpec) -> tuple[Checkpoint, str]:
    parent = spec.trials[0].parent
    assert parent is not None
    return load_parents(Store(spec.checkpoint), {"best": parent.path})["best"], parent.path


def _language_model(spec: RunSpec, folder: Path) -> None:
    """The model under the names of its own library; a head that was trained apart from the embeddings stays apart."""
    from frostline_trainer.models.causal_lm import CausalLMNetwork

    saved, path = _saved(spec)
    source = open_data(spec.data, spec.trials[0].training, spec.seed)
    network = build_network(spec.model, source.shape, spec.seed)
    assert isinstance(network, CausalLMNetwork)
    if saved.layers < network.layers or saved.extra.get("untied"):
        network.untie()
    model: Any = network.module()
    copy_into(dict(model.state_dict(keep_vars=True)), saved.weights, path)
    model.config.use_cache = True
    model.save_pretrained(folder)
    if spec.data.tokenizer != "bytes":
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            local_folder(spec.data.tokenizer, "data.tokenizer"), local_files_only=True
        )
        tokenizer.save_pretrained(folder)


def _classifier(spec: RunSpec, folder: Path) -> None:
    """Weights of all units, and what it takes to build the network and to feed it."""
    pack = build_pack(spec, torch.device("cpu"), Store(spec.checkpoint))
    pack.batches.close()
    source = open_data(spec.data, spec.trials[0].training, spec.seed)
    state, architecture = _vision(spec, pack, source) if spec.model.family == "Vision" else _mlp(spec, pack, source)
    save_file(_plain(state), folder / WEIGHTS)
    description = {"family": spec.model.family, **architecture, **source.reading}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def _units(pack: Pack) -> dict[str, Tensor]:
    """Tensors of the frozen part and of the trained one, by `units.PLACE.NAME`."""
    frozen = {} if pack.prefix is None else dict(pack.prefix.float().state_dict())
    return frozen | dict(pack.members[0].suffix.state_dict())


def _vision(spec: RunSpec, pack: Pack, source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Under torchvision's own names, and its builder's arguments."""
    from torchvision import models

    from frostline_trainer.models.vision import builder_arguments

    assert spec.model.name is not None
    arguments = builder_arguments(spec.model, source.shape)
    # What no unit holds, such as auxiliary heads, is as the builder makes it.
    state = dict(models.get_model(spec.model.name, weights=None, **arguments).state_dict())
    state |= {name.split(".", 2)[2]: tensor for name, tensor in _units(pack).items()}
    return state, {"name": spec.model.name, "arguments": arguments}


def _mlp(spec: RunSpec, pack: Pack, source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As a plain `nn.Sequential` of the layers that the description lists."""
    flat = [["Flatten"]] if len(source.shape.input) > 1 else []
    activation = {"relu": "ReLU", "gelu": "GELU", "tanh": "Tanh", "silu": "SiLU"}[spec.model.activation]
    widths = [math.prod(source.shape.input), *spec.model.hidden]
    layers: list[list[Any]] = [*flat]
    places: list[int] = []
    for narrow, wide in itertools.pairwise(widths):
        places.append(len(layers))
        layers += [["Linear", narrow, wide], [activation]]
    places.append(len(layers))
    layers.append(["Linear", widths[-1], source.shape.classes])
    state: dict[str, Tensor] = {}
    for name, tensor in _units(pack).items():
        parts = name.split(".")  # units.PLACE[.POSITION].weight
        state[f"{places[int(parts[1])]}.{parts[-1]}"] = tensor
    return state, {"layers": layers}


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def main(document: str, folder: str) -> int:
    """The command `export`; returns the exit code."""
    from frostline_trainer.run import describe

    try:
        text = Path(document[1:]).read_text(encoding="utf-8") if document.startswith("@") else document
        files = export(RunSpec.model_validate_json(text), Path(folder))
    except (StudyFault, CheckpointsLost, DamageError, OSError, pydantic.ValidationError) as error:
        message = describe(error) if isinstance(error, pydantic.ValidationError) else str(error)
        log("fault", message=message)
        return 43
    print(json.dumps(files))
    return 0
