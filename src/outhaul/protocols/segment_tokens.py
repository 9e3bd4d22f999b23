"""Push tokens in Segment messages: which service one is for.

Segment's SDKs send a token as `context.device.token`, beside a device type, and not what kind of token it is. What
they leave open is told by its form: Apple's are hexadecimal, a subscription to Web Push is JSON, registrations of
Firebase have a colon in them, its installation ids are 22 characters of URL-safe base64.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from outhaul.protocols.json_text import plain

if TYPE_CHECKING:
    from outhaul.records import TokenService

KINDS: dict[str, TokenService] = {
    "fcm_token": "gcm",
    "fcm_fid": "fcmFid",
    "apns": "apns",
    "apns_sandbox": "apnsDev",
    "webpush": "webpush",
    "hms": "hms",
}
"""What an app may say in `context.device.tokenKind`, and the service that is meant."""

_TYPES: dict[str, TokenService] = {
    "android": "gcm",
    "ios": "apns",
    "ipados": "apns",
    "macos": "apns",
    "tvos": "apns",
    "visionos": "apns",
    "watchos": "apns",
    "windows": "wns",
    "web": "webpush",
    "browser": "webpush",
}
_is_fid = re.compile(r"[A-Za-z0-9_-]{22}").fullmatch


def service_of(device: dict[str, Any], system: str) -> TokenService | None:
    """The service that the token in a context's `device` is for; `system` is the name of its operating system.

    None if it is neither said nor to be seen.
    """
    token = device.get("token")
    told = device.get("tokenKind") or device.get("token_kind")
    if told is not None:
        return KINDS.get(told) if isinstance(told, str) else None
    if isinstance(token, dict) or (isinstance(token, str) and token.startswith("{")):
        return "webpush"
    named = plain(device.get("type")) or system
    service = _TYPES.get(named.lower())
    if isinstance(token, str) and service in {"gcm", "apns"}:
        if _is_fid(token):
            return "fcmFid"
        if ":" in token:
            # Firebase registers devices of Apple as well, under tokens of its own.
            return "gcm"
    return service
