"""Models and tokenizers by name: `hf://owner/model` or `hf://owner/model@revision`, from the Hugging Face hub.

Only what is written with hf:// is ever asked for. It is kept below HF_HOME, so that on a shared volume it is downloaded
once; with HF_HUB_OFFLINE=1 nothing is downloaded. A branch moves: name a commit where runs must agree for sure.
"""

from __future__ import annotations

import functools

from frostline_trainer.errors import StudyFault

SCHEME = "hf://"
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.tiktoken", "*.jinja"]
"""Config, weights and tokenizer; no pickled weights and no code."""


@functools.cache
def local_folder(named: str, field: str) -> str:
    """The folder of what is named: a path as it is, or what the hub has, downloaded if need be.

    Args:
        named: a path, or hf://owner/model[@revision].
        field: of the manifest, for the message.

    Raises:
        StudyFault: the hub does not know it, or does not give it to us.
        OSError: the hub cannot be reached, which may pass.
    """
    if not named.startswith(SCHEME):
        return named
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = named.removeprefix(SCHEME).partition("@")
    try:
        return str(snapshot_download(name, revision=revision or None, allow_patterns=_WANTED))
    except HFValidationError as error:
        raise StudyFault(f"{field}: {named} is no name of a model; write it like hf://owner/model@revision") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise StudyFault(
            f"{field}: the hub has no {named}, or not for us; correct the name, or give trainers a token that may read "
            "it"
        ) from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise StudyFault(
                f"{field}: {named} is not below HF_HOME, and HF_HUB_OFFLINE forbids to download it; download it once, "
                "or give the path of a folder"
            ) from error
        raise OSError(f"{field}: the hub cannot be reached for {named}: {error}") from error
