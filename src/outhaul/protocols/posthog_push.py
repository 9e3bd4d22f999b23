"""Push subscriptions of PostHog's mobile SDKs.

PostHog has a subscription for each user and app, and no word of the device in it. Two devices of one user must not take
each other's token, and one device that changes users must not end up with two. So here a subscription is a device
of its own, named after its token, whose user is the distinct id.
"""

from __future__ import annotations

import hashlib
from typing import Any

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.json_text import JSON_ERRORS, mend, read, text_of, write
from outhaul.protocols.segment_message import identifier, particular
from outhaul.protocols.segment_tokens import service_of
from outhaul.protocols.sieve import Sieve
from outhaul.records import Frame, Parsed, Tag, Token


def subscription(body: bytes) -> dict[str, Any]:
    """What the body of a request says.

    Raises:
        Invalid: it is no JSON object.
    """
    try:
        told = read(body)
    except JSON_ERRORS:
        try:
            told = read(mend(body))
        except JSON_ERRORS as error:
            raise Invalid(f"The body is not JSON: {error}.", hint="Send a JSON object.") from None
    if not isinstance(told, dict):
        raise Invalid("The body is no JSON object.", hint="Send one with `distinct_id` and `device_token`.")
    return told


def stored(body: bytes, *, valid: bool) -> bytes:
    """The body that is kept: beside what was sent whether a subscription was made or ended, which only the method said."""
    return b'{"valid":' + (b"true" if valid else b"false") + b',"subscription":' + body + b"}"


def skim(body: bytes) -> int:
    """One, for a body of `stored`.

    Raises:
        Invalid: it is something else.
    """
    if not isinstance(subscription(body).get("subscription"), dict):
        raise Invalid("The body holds no subscription.", hint="Send a JSON object.")
    return 1


def parse(frame: Frame) -> Parsed:
    """The token of one request, and whose it is; never raises."""
    sieve = Sieve(frame.received_at)
    try:
        skim(frame.body)
        told = subscription(frame.body)
        _sort(told["subscription"], frame, sieve, valid=told.get("valid") is not False)
    except Invalid as error:
        sieve.set_aside("malformed", error.message, text_of(frame.body))
    except records.Invalid as error:
        sieve.set_aside(error.reason, error.detail, text_of(frame.body))
    except RecursionError:
        sieve.set_aside("malformed", "nested too deeply", text_of(frame.body))
    return sieve.parsed


def _sort(told: dict[str, Any], frame: Frame, sieve: Sieve, *, valid: bool) -> None:
    distinct_id, token = identifier(told, "distinct_id"), told.get("device_token")
    if distinct_id is None:
        raise records.Invalid("field_missing", "a subscription needs its distinct_id")
    if not isinstance(token, str) or not token:
        raise records.Invalid("field_missing", "a subscription needs its device_token")
    platform = particular(told.get("platform")) or ""
    service = service_of({"token": token, "type": platform}, "")
    if service is None:
        raise records.Invalid("not_supported", f"there is no push service for platform {platform[:80]!r}")
    named = hashlib.sha256(f"{service}:{token}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    shared: dict[str, Any] = {
        "device_id": f"push-{named}",
        "user_id": distinct_id,
        "timestamp": frame.received_at,
    }
    sieve.keep(Token(**shared, token=token, service=service, valid=valid), lambda: write(told))
    if valid:
        sieve.keep(Tag(**shared, key="userid", value=distinct_id), lambda: write(told))
