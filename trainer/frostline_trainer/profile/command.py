"""The commands `profile` and `compare` of the trainer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import pydantic

from frostline_trainer.contract import ModelProfile, ProfileSpec
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.profile.costs import profile
from frostline_trainer.profile.custom_costs import custom_costs
from frostline_trainer.profile.preflight import Where
from frostline_trainer.profile.preflight import main as preflight
from frostline_trainer.profile.table import table


def main(
    document: str,
    form: str,
    memory: Literal["cuda", "cpu", "none"] = "none",
    choices: str | None = None,
    where: Where = "cpu",
) -> int:
    """The command `profile`; returns the exit code. The memory part is read from the cache where it was made before.

    With `choices`, another such document whose variants are the study's choices, they are tried out first.
    """
    from frostline_trainer.run import describe

    try:
        text = Path(document[1:]).read_text(encoding="utf-8") if document.startswith("@") else document
        fields = json.loads(text)
        if "trials" in fields and "training" not in fields:  # a RunSpec: the first trial's training stands for all
            fields["training"] = fields["trials"][0].get("training", {})
        wanted = {name: fields[name] for name in ProfileSpec.model_fields if name in fields}
        spec = ProfileSpec.model_validate_json(json.dumps(wanted))
        if choices is not None and (code := preflight(choices, where)):
            return code
        costs = profile(spec) if spec.model.family != "Custom" else custom_costs(spec)
        if memory != "none":
            costs = _with_memory(costs, spec, memory)
    except (StudyFault, OSError, json.JSONDecodeError, pydantic.ValidationError) as error:
        message = describe(error) if isinstance(error, pydantic.ValidationError) else str(error)
        log("fault", message=message)
        return 43
    print(costs.model_dump_json(by_alias=True) if form == "json" else table(costs))
    sys.stdout.flush()
    return 0


def _with_memory(costs: ModelProfile, spec: ProfileSpec, device: Literal["cuda", "cpu"]) -> ModelProfile:
    """The costs together with the memory profile of the configuration that needs most."""
    from frostline_trainer.profile.memory import cached_memory_profile
    from frostline_trainer.profile.worst import worst_case

    worst, factor, label = worst_case(spec, device)
    memory = cached_memory_profile(worst, device)
    notes = list(costs.notes)
    if label:
        notes.append(f"memory is that of {label}, which needs the most of {len(spec.variants)} corners of the space")
    if memory.method == "Probed":
        notes.append("memory was measured in short runs, as the entrypoint cannot be traced")
    memory = memory.model_copy(update={"margin": round(memory.margin * factor, 4)})
    return costs.model_copy(update={"memory": memory, "notes": notes})


def compare(document: str, layers: int, memory: Literal["cuda", "cpu"]) -> int:
    """The command `compare`: peak bytes at one z of the document and of each of its variants, as a JSON list.

    None stands for a variant that this model or machine does not support. One simulation each, so that a question such
    as "would activation checkpointing do?" is answered at once.
    """
    from frostline_trainer.profile.worst import required

    spec = ProfileSpec.model_validate_json(document)
    answers: list[int | None] = []
    for candidate in [spec, *map(spec.vary, spec.variants)]:
        try:
            answers.append(required(candidate, layers, memory))
        except StudyFault as fault:
            log("left-out", message=str(fault))
            answers.append(None)
    print(json.dumps(answers))
    return 0
