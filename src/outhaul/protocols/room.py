"""Texts of any length among extras, which have a limit."""

from __future__ import annotations

from typing import Any

from outhaul.protocols.json_text import write
from outhaul.records import EXTRAS_LIMIT


def filled(extras: dict[str, Any], key: str, text: str) -> dict[str, Any]:
    """The extras, with as much of a text under `key` as there is room for; unchanged if the app has that key itself.

    For what a protocol tells besides what the app gave: a message or a stack that is too long must not cost the record.
    """
    if not text or key in extras:
        return extras
    # Escapes in JSON take up to six characters for one, so what fits is found by trying.
    low, high = 0, min(len(text), EXTRAS_LIMIT)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(write({**extras, key: text[:middle]})) <= EXTRAS_LIMIT
        low, high = (middle, high) if fits else (low, middle - 1)
    return {**extras, key: text[:low]} if low else extras
