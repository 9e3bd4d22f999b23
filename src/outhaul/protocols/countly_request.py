"""One request of Countly's SDKs: parameters in a query, a form or both, and what all of them have.

Parameters hold text, numbers as text, and JSON as text. In a bulk request they are members of JSON objects instead, which
hold the same either as such or as text.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.json_text import JSON_ERRORS, check_crowd, mend, read, write

_FIELD_LIMIT = 1000
_ID_LIMIT = 255
_SECONDS_BELOW = 10**11
"""Smaller times are seconds: as ms they would lie before 1974, and as seconds ours lie below it until 5138."""
_VARYING = frozenset({"rr", "checksum256", "checksum"})
"""What differs between two attempts at the same request, or follows from that: how many others wait behind it."""


class Request(Struct):
    """What one device says at one time. `time` is ms UTC; `id` is the same whenever the request is sent again."""

    params: dict[str, Any]
    id: str
    device_id: str
    time: int
    application_version_name: str | None
    sdk_name: str | None
    sdk_version: str | None

    def shared(self, part: str) -> dict[str, Any]:
        """The fields every record has; `part` says which of the request's records it is."""
        return {
            "device_id": self.device_id,
            "id": f"{self.id}:{part}",
            "application_version_name": self.application_version_name,
        }

    def here(self, part: str) -> dict[str, Any]:
        """The fields of a record that may be in a session. Sessions have no ids."""
        return self.shared(part) | {"session_id": records.UNNAMED}

    def has(self, name: str) -> bool:
        """Whether a parameter is there and says something."""
        return self.params.get(name) not in (None, "")

    def text(self, name: str) -> str | None:
        """A parameter as text, none where it is absent or empty."""
        return particular(self.params.get(name))

    def object(self, name: str) -> dict[str, Any]:
        """A parameter that is a JSON object.

        Raises:
            records.Invalid: it is something else.
        """
        value = _told(self.params[name], name)
        if not isinstance(value, dict):
            raise records.Invalid("field_invalid", f"{name} is not a JSON object")
        return value

    def array(self, name: str) -> list[Any]:
        """A parameter that is a JSON array.

        Raises:
            records.Invalid: it is something else.
        """
        value = _told(self.params[name], name)
        if not isinstance(value, list):
            raise records.Invalid("field_invalid", f"{name} is not a JSON array")
        return value

    def sent(self, *names: str) -> str:
        """Parameters as they were sent, for whoever looks into what was set aside."""
        return write({name: self.params[name] for name in names if name in self.params})


def open_form(body: bytes) -> dict[str, str]:
    """The parameters of a body in the form of a query: `a=1&b=2`. The last of several with one name counts.

    Raises:
        Invalid: it is none, or not UTF-8, or holds over 1,000.
    """
    if b"\0" in body:
        # Also what cuts off a body that was too large, see `collect.countly`.
        raise Invalid("The body is not a form, or was cut.", hint="Send what the SDK sends.")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="replace", max_num_fields=_FIELD_LIMIT
        )
    except ValueError as error:
        raise Invalid(f"The body is not a form: {error}.", hint="Send what the SDK sends.") from None
    if not pairs:
        raise Invalid("The body holds no parameters.", hint="Send what the SDK sends.")
    return dict(pairs)


def read_request(params: dict[str, Any], received_at: int) -> Request:
    """Read what every request has.

    Raises:
        records.Invalid: it lacks it, with the reason; the request is then set aside whole.
    """
    device_id = identifier(params.get("device_id"), "device_id")
    stamp = params.get("timestamp")
    time = received_at if stamp in (None, "") else millis(stamp, "timestamp")
    told = {name: params[name] for name in sorted(params) if name not in _VARYING}
    # Equal requests that do not say when they were made are told apart by when they came.
    salt = received_at if stamp in (None, "") else 0
    return Request(
        params=params,
        id=hashlib.md5(write([told, salt]).encode(), usedforsecurity=False).hexdigest(),
        device_id=device_id,
        time=time,
        application_version_name=_version(params),
        sdk_name=particular(params.get("sdk_name")),
        sdk_version=particular(params.get("sdk_version")),
    )


def identifier(value: Any, name: str) -> str:
    """An id as text.

    Raises:
        records.Invalid: it is absent, not a text or whole number, or longer than 255.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value in (None, ""):
        raise records.Invalid("field_missing", f"{name} is required")
    if not isinstance(value, str) or len(value) > _ID_LIMIT:
        raise records.Invalid("field_invalid", f"{name} is not a text of up to {_ID_LIMIT} characters")
    return value


def millis(value: Any, name: str) -> int:
    """A time in ms or seconds since 1970, as a number or as text, in ms.

    Raises:
        records.Invalid: it is no such thing.
    """
    time = number(value)
    if time is None:
        raise records.Invalid("field_invalid", f"{name} is not a time in ms or seconds since 1970")
    return round(time * 1000) if abs(time) < _SECONDS_BELOW else round(time)


def number(value: Any) -> float | None:
    """A number, or text that says one; none for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        told = float(value)
    except (ValueError, OverflowError):
        return None
    return told if math.isfinite(told) else None


def particular(value: Any) -> str | None:
    """A fact as text; none unless it is a number, or text that is not empty."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return write(value)
    return None


def _told(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace")
    try:
        check_crowd(text)
        return read(mend(text))
    except Invalid as error:
        raise records.Invalid("malformed", f"{name}: {error.message}") from None
    except JSON_ERRORS as error:
        raise records.Invalid("malformed", f"{name} is not JSON: {error}") from error


def _version(params: dict[str, Any]) -> str | None:
    version = particular(params.get("av"))
    if version is None and params.get("metrics"):
        try:
            metrics = _told(params["metrics"], "metrics")
        except records.Invalid:
            return None
        version = particular(metrics.get("_app_version")) if isinstance(metrics, dict) else None
    if version is not None and len(version) > _ID_LIMIT:
        raise records.Invalid("field_invalid", f"the app's version is longer than {_ID_LIMIT} characters")
    return version
