"""Bodies of PostHog's SDKs: a batch, a single event, an array of events, or a form that holds one of these.

Today's SDKs send JSON, compressed or not. Those of some years ago send a form with `data`, which is the JSON itself
or its base64, and the pixel sends that form as the query of a GET (PostHog's documentation of its capture API).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from outhaul.errors import Invalid, TooLarge
from outhaul.inflate import inflate, sniff
from outhaul.protocols.json_text import JSON_ERRORS, check_count, check_crowd, mend, read, write

_FORM_LIMIT = 20 * 1024 * 1024
"""Bytes that the data of a form may inflate to."""
_HINT = (
    'Send a JSON object: {"api_key": ..., "batch": [...], "sent_at": ...}, an event, or an array of events.'
)


class Bag(Struct):
    """What one request holds: events, unread, who sends them as far as that is said, and when that was sent.

    `sent_at` is what the sender's clock said, as JSON would have it; none if it does not say.
    """

    events: list[Raw]
    key: str
    sent_at: Any


class _Envelope(Struct):
    batch: list[Raw] | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    api_key: Any = None
    token: Any = None
    sent_at: Raw | UnsetType = UNSET
    properties: Any = None


class _Event(Struct):
    api_key: Any = None
    token: Any = None
    properties: Any = None


class _Id(Struct):
    uuid: Any = None


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_array = msgspec.json.Decoder(list[Raw]).decode
_read_event = msgspec.json.Decoder(_Event).decode
_read_id = msgspec.json.Decoder(_Id).decode


def open_bag(body: bytes) -> Bag:
    """Open a body, inflated as far as its bytes say that it is compressed.

    Raises:
        Invalid: it holds no events in any of the forms there are, or more than are taken at once.
    """
    return _open(unwrap(body))


def unwrap(body: bytes) -> bytes:
    """The JSON of a body: the body itself, unless it is a form.

    Raises:
        Invalid: it is a form with data that is none.
    """
    if body.lstrip()[:1] in {b"{", b"["}:
        return body
    found = _form_data(body)
    if found is None:
        return body
    if found.lstrip()[:1] in {b"{", b"["}:
        return found
    try:
        # Spaces are pluses that somebody did not escape; what is missing at the end is padding.
        packed = base64.b64decode(found.strip().replace(b" ", b"+") + b"==")
        return inflate(packed, sniff(packed), _FORM_LIMIT)
    except (binascii.Error, TooLarge) as error:
        raise Invalid(f"The form's data is neither JSON nor base64 of it: {error}.", hint=_HINT) from None


def sent(body: bytes, moment: str) -> bytes:
    """A body that also says when it was sent, in place of one whose request said it elsewhere.

    Raises:
        Invalid: it is not a body that may hold events.
    """
    text = unwrap(body).strip()
    told = write(moment).encode()
    if text[:1] == b"[":
        return b'{"sent_at":' + told + b',"batch":' + text + b"}"
    if text[:1] == b"{" and text[1:].lstrip()[:1] != b"}":
        # Of two members of one name the later counts: what the body itself says stands.
        return b'{"sent_at":' + told + b"," + text[1:]
    raise Invalid("The body is neither a batch nor an event.", hint=_HINT)


def key_of(event: Raw) -> str:
    """The key that an event names, empty if it names none: the array form has it nowhere else."""
    try:
        found = _read_event(event)
    except JSON_ERRORS:
        return ""
    return _key(found)


def uuid_of(event: Raw) -> str | None:
    """The id that an event has, none if it has none."""
    try:
        uuid = _read_id(event).uuid
    except JSON_ERRORS:
        return None
    return uuid if isinstance(uuid, str) else None


def _form_data(body: bytes) -> bytes | None:
    if b"data=" not in body[:4096]:
        return None
    try:
        form = parse_qs(body.decode("ascii"), max_num_fields=16)
    except ValueError:
        return None
    found = form.get("data")
    return found[0].encode() if found else None


def _open(body: bytes) -> Bag:
    check_crowd(body)
    try:
        bag = _read(body)
    except JSON_ERRORS:
        try:
            bag = _read(mend(body))
        except JSON_ERRORS as error:
            raise Invalid(f"The body holds no events: {error}.", hint=_HINT) from None
    check_count(len(bag.events))
    return bag


def _read(body: bytes) -> Bag:
    if body.lstrip()[:1] == b"[":
        events = _read_array(body)
        return Bag(events, key_of(events[0]) if events else "", None)
    envelope = _read_envelope(body)
    sent_at = None if envelope.sent_at is UNSET else read(envelope.sent_at)
    if envelope.batch is not UNSET:
        events = envelope.batch
        return Bag(events, _key(envelope) or (key_of(events[0]) if events else ""), sent_at)
    if envelope.event is not UNSET:
        return Bag([Raw(body)], _key(envelope), sent_at)
    raise msgspec.ValidationError("it is neither a batch nor an event")


def _key(found: _Envelope | _Event) -> str:
    inner = found.properties.get("token") if isinstance(found.properties, dict) else None
    return next((key for key in (found.api_key, found.token, inner) if isinstance(key, str) and key), "")
