"""What of a study must not change once it has begun, also where the API server cannot see a change."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.crds.rules import IMMUTABLE, IMMUTABLE_SEARCH


def fixed_part(spec: HPOStudySpec) -> dict[str, str]:
    """A digest of each section that is fixed."""
    document = spec.model_dump(mode="json", by_alias=True)
    parts: dict[str, Any] = {name: document[name] for name in IMMUTABLE}
    parts |= {f"search.{name}": document["search"][name] for name in IMMUTABLE_SEARCH}
    return {
        f"spec.{name}": hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
        for name, value in parts.items()
    }


def changed_sections(known: dict[str, str], spec: HPOStudySpec) -> list[str]:
    """Fixed sections that are not what they were."""
    return [name for name, digest in fixed_part(spec).items() if known.get(name, digest) != digest]
