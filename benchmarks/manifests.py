"""Spoils manifests at random and holds what reads them to it: a message or a study, never a crash and never a hang.

    python benchmarks/manifests.py --count 8000 --preflight 200

Every manifest goes through the loader; of those that it takes, so many go through the preflight as well.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import time
from pathlib import Path
from typing import Any

from frostline_operator.api.loader import parse_study
from frostline_operator.api.problems import StudyError
from frostline_operator.api.yaml import read_documents, to_yaml
from frostline_operator.engine.profiling import choices_document
from frostline_trainer.contract import ProfileSpec
from frostline_trainer.profile.preflight import preflight

EXAMPLES = Path(__file__).parents[1] / "examples"
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 3, 10**30, 0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"), "", " ", "0", "None",
    "AdamW", "adamw", "All", "Half", "1Gi", "9" * 400, "a" * 5000, "\u202e", "../../etc/passwd", "hf://", [], {}, [[]],
    [None], {"": ""}, {"min": 1}, [1, 2, 3], {"name": "lr"},
]  # fmt: skip
"""What is put in the place of a value."""
_MARKS = ["", "\t", ":", "[", "{", "&a ", "*a", "\0", "é", "'", "- ", "\n"]
"""What is put in the place of a character."""
SLOW_SECONDS = 10.0


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        found += places(below, (*path, key))
    return found


def spoil(document: Any, rng: random.Random) -> None:
    """Change, remove, rename, double or move one thing."""
    path = rng.choice(places(document))
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    key = path[-1]
    match rng.randrange(5):
        case 0:
            holder[key] = rng.choice(ODD)
        case 1:
            del holder[key]
        case 2 if isinstance(holder, dict):
            holder[f"{key}x" if rng.random() < 0.5 else str(key).swapcase()] = holder.pop(key)
        case 3 if isinstance(holder, list):
            holder.append(holder[key])
        case _:
            other = document
            for step in rng.choice(places(document)):
                other = other[step]
            holder[key] = json.loads(json.dumps(other))


def mangle(text: str, rng: random.Random) -> str:
    """Change some characters of the text itself."""
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text))
        text = (
            text[:at] + rng.choice(["", "\t", ":", "[", "{", "&a ", "*a", "\0", "é", "'", "- ", "\n"]) + text[at + 1 :]
        )
    return text


def main() -> None:
    """Spoil, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8000, help="manifests for the loader")
    parser.add_argument("--preflight", type=int, default=200, help="of those that it takes, for the preflight")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    texts = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.yaml"))]
    counts: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for number in range(options.count):
        text = rng.choice(texts)
        if number % 4 == 0:
            text = mangle(text, rng)
        else:
            [document] = read_documents(text, "x")[0]
            for _ in range(rng.randrange(1, 4)):
                if places(document.data):
                    spoil(document.data, rng)
            text = to_yaml(document.data) if isinstance(document.data, dict) else ""
        began = time.monotonic()
        try:
            study = parse_study(text, "study.yaml", alone=True)
            counts["loader: taken"] += 1
        except StudyError:
            study = None
            counts["loader: refused"] += 1
        slowest = max(slowest, time.monotonic() - began)
        if study is not None and study.spec.model.family != "Custom" and counts["preflight"] < options.preflight:
            counts["preflight"] += 1
            began = time.monotonic()
            problems = preflight(ProfileSpec.model_validate_json(choices_document(study.spec)), "cpu")
            counts["preflight: refused" if problems else "preflight: taken"] += 1
            counts["preflight: slow"] += time.monotonic() - began > SLOW_SECONDS
    for name, count in sorted(counts.items()):
        print(f"{name:<20} {count:>6}")
    print(f"slowest in the loader: {slowest:.2f} s")


if __name__ == "__main__":
    main()
