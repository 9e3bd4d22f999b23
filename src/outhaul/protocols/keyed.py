"""Trees of values from outside, under keys that our records take."""

from __future__ import annotations

import re
from typing import Any

from outhaul.records import KEY_LIMIT, KEY_PATTERN

_is_key = re.compile(KEY_PATTERN).match
_NOT_IN_KEYS = re.compile(r"[^a-zA-Z0-9_]")


def keyed(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with keys that our records take: letters, digits and `_`, a letter first, up to 64.

    Other keys are rewritten; one that then collides gets a number, so that no value is lost.
    """
    taken = {key for key in tree if _is_key(key)}
    counts: dict[str, int] = {}
    result: dict[str, Any] = {}
    for key, value in tree.items():
        name = key
        if not _is_key(key):
            base = name = _rewritten(key)
            while name in taken:
                counts[base] = counts.get(base, 1) + 1
                suffix = f"_{counts[base]}"
                name = base[: KEY_LIMIT - len(suffix)] + suffix
            taken.add(name)
        result[name] = value
    return result


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree without objects inside: `{"address": {"city": "Paris"}}` as `{"address_city": "Paris"}`, keyed.

    Lists stay as they are, and so do objects that are empty.
    """
    leaves: dict[str, Any] = {}
    waiting = [("", tree)]
    branches = 0
    while waiting:
        path, branch = waiting.pop()
        for key, value in branch.items():
            name = f"{path}{key}"
            if not isinstance(value, dict) or not value:
                leaves[name] = value
                continue
            branches += 1
            # What is beyond the limit is not in the key, and would be in memory as often as there are leaves.
            whole = len(name) <= KEY_LIMIT
            # No key of an app has this character, so that `a_b` and `b` inside `a` are told apart.
            waiting.append((f"{name}\0" if whole else f"{name[:KEY_LIMIT]}\0{branches}\0", value))
    return keyed(leaves)


def _rewritten(key: str) -> str:
    cleaned = _NOT_IN_KEYS.sub("_", key)
    if not cleaned[:1].isalpha():
        cleaned = f"t_{cleaned}"
    return cleaned[:KEY_LIMIT]
