"""One seed per purpose, so that nothing random depends on what else happened to run before it."""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: str | int) -> int:
    """A seed in [0, 2**63) for the purpose that `path` names, such as `derive(seed, "order", epoch)`.

    It is a hash, hence a pure function: two trials ask for the same purpose and get the same stream, whether they
    share a process or not. That is what makes a trial's result independent of whom it is packed with.
    """
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
