"""Merging a pod template into another one, as `kubectl patch` merges strategically: lists by the key of their items."""

from __future__ import annotations

import copy
from typing import Any

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "resourceClaims": "name",
}
"""By what items of a list are told apart; other lists (tolerations) are joined, or replaced if in `_REPLACED`."""
_REPLACED = ("command", "args", "add", "drop", "values", "nameservers", "searches", "nodeSelectorTerms")


_WHOLE = ("volumes",)
"""Lists whose items replace those of the same key: a volume has one source only."""


def merged(base: Any, overlay: Any) -> Any:
    """`base` with everything of `overlay` in it. None in the overlay removes."""
    if isinstance(base, dict) and isinstance(overlay, dict):
        return _mappings(base, overlay)
    return copy.deepcopy(overlay)


def _mappings(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(base)
    for name, value in overlay.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, list) and isinstance(made.get(name), list) and name not in _REPLACED:
            made[name] = _lists(made[name], value, _KEYS.get(name), name in _WHOLE)
        else:
            made[name] = merged(made.get(name), value)
    return made


def _lists(base: list[Any], overlay: list[Any], key: str | None, whole: bool) -> list[Any]:
    if key is None or not all(isinstance(item, dict) and key in item for item in (*base, *overlay)):
        return base + [copy.deepcopy(item) for item in overlay if item not in base]
    result = list(base)
    positions = {item[key]: position for position, item in enumerate(result)}
    for item in overlay:
        if item[key] in positions:
            position = positions[item[key]]
            result[position] = copy.deepcopy(item) if whole else merged(result[position], item)
        else:
            result.append(copy.deepcopy(item))
    return result
