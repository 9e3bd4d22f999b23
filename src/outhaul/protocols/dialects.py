"""Every wire dialect, by the name that the journal records it under."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from outhaul.protocols import azme_web, countly, native, posthog, posthog_push, segment
from outhaul.protocols.json_text import text_of
from outhaul.records import Frame, Parsed, Reason, Reject

if TYPE_CHECKING:
    from collections.abc import Callable


class Dialect(NamedTuple):
    """One way of sending records.

    `skim` counts the items of a body before it is acknowledged, or raises `errors.Invalid`; `parse` reads
    it later, and whatever cannot be taken is among its rejects.
    """

    name: str
    skim: Callable[[bytes], int]
    parse: Callable[[Frame], Parsed]


ADMIN = "admin"
"""Native records about devices that did not come from them: nobody saw the devices then."""

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("native", native.skim, native.parse),
        Dialect(ADMIN, native.skim, native.parse),
        Dialect("segment", segment.skim, segment.parse),
        Dialect("azme_web", azme_web.skim, azme_web.parse),
        Dialect("countly", countly.skim, countly.parse),
        Dialect("countly_unproven", countly.skim, countly.parse_unproven),
        Dialect("posthog", posthog.skim, posthog.parse),
        Dialect("posthog_push", posthog_push.skim, posthog_push.parse),
    )
}


def parse(frame: Frame) -> Parsed:
    """What one request says. Never raises: no request, however odd, can stop the ones behind it."""
    dialect = DIALECTS.get(frame.protocol)
    if dialect is None:
        return _refused(frame, "not_supported", f"there is no dialect named {frame.protocol!r}")
    try:
        return dialect.parse(frame)
    except Exception as error:  # noqa: BLE001  a fault of ours must cost one request, not all that follow
        return _refused(frame, "parser_failed", f"{type(error).__name__}: {error}")


def _refused(frame: Frame, reason: Reason, detail: str) -> Parsed:
    # The words of an error may quote the body, so they are made as safe to store as the body itself.
    safe = text_of(detail.encode("utf-8", "backslashreplace"))
    return Parsed(records=[], rejects=[Reject(reason=reason, detail=safe, raw=text_of(frame.body))])
