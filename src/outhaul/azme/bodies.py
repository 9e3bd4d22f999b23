"""Request bodies → shapes: JSON or a form, member names in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

S = TypeVar("S", bound=Struct)

FORM = "application/x-www-form-urlencoded"
_LISTS = frozenset({"campaignids"})


def read_form(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form, in order.

    Raises:
        Invalid: it is not UTF-8.
    """
    try:
        return parse_qsl(body.decode().strip(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Invalid("The request body is not a form in UTF-8.", hint="Escape UTF-8 bytes as %XX.") from None


def read_shape(body: bytes, content_type: str, shape: type[S]) -> S:
    """A body as the shape says. Members it does not know are let pass; null is the same as absent.

    Raises:
        Invalid: the body is no JSON object (or form), or a member is missing or wrong, which it names.
    """
    # curl says form unless told otherwise, whatever it is given: no form starts with a brace.
    is_form = content_type.partition(";")[0].strip().lower() == FORM and not body.lstrip().startswith(b"{")
    members = _form_members(body) if is_form else _json_members(body)
    names = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(shape)}
    known: dict[str, Any] = {}
    for name, value in members:
        canonical = names.get(name.lower())
        if canonical is not None and value is not None and known.setdefault(canonical, value) != value:
            raise Invalid(f"{canonical} is given twice, with different values.", hint="Give it once.")
    try:
        # Everything in a form is text, numbers too.
        return msgspec.convert(known, shape, strict=not is_form)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The request body is wrong: {error}.", hint="See the operation's parameters."
        ) from None


def _json_members(body: bytes) -> Iterable[tuple[str, Any]]:
    try:
        value = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("The request body is not JSON in UTF-8.", hint="Send one JSON object.") from None
    if not isinstance(value, dict):
        raise Invalid("The request body is not a JSON object.", hint="Send one JSON object.")
    return value.items()


def _form_members(body: bytes) -> Iterable[tuple[str, Any]]:
    """Lists come as a field repeated, or as one with commas."""
    lists: dict[str, list[str]] = {}
    for name, text in read_form(body):
        if name.lower() in _LISTS:
            lists.setdefault(name.lower(), []).extend(part.strip() for part in text.split(","))
        else:
            yield name, text
    yield from lists.items()
