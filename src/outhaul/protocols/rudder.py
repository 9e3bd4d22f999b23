"""What RudderStack's SDKs say otherwise than Segment's; everything else is in `protocols.segment`.

Facts are from what its SDKs send: sessions in the context, traits there too when a user is identified, a time zone
written as an offset, and an `app` that is the browser SDK itself.
"""

from __future__ import annotations

import re
from typing import Any

_WEB_SDK = "com.rudderlabs.javascript"
_ZONE = re.compile(r"GMT([+-])(\d\d):?(\d\d)")


def app_of(app: dict[str, Any]) -> dict[str, Any]:
    """What the context says about the app: nothing where the browser SDK names itself, whose version is not the app's."""
    return {} if app.get("namespace") == _WEB_SDK else app


def starts_session(context: dict[str, Any]) -> bool:
    """Whether this is the first message of its session."""
    return context.get("sessionStart") is True


def offset_of(zone: str) -> int | None:
    """Minutes from UTC of a zone written as `GMT+0530`; none if it is written otherwise."""
    match = _ZONE.fullmatch(zone)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes
