"""`$skip`, `$top` and `$orderby` of a list, and the link to its next page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from msgspec import Struct

from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION = "2014-12-01"
DEFAULT_TOP = 20
MAX_TOP = 40
DEVICES_TOP = 100
_MAX_SKIP = 2**31 - 1
_NUMBER = re.compile(r"[0-9]{1,10}")


class Page(Struct, frozen=True, kw_only=True):
    """One page of a list; `order` is the name the client sorts by, as the API spells it."""

    skip: int
    top: int
    order: str
    descending: bool


def read_page(query: Mapping[str, str], orders: tuple[str, ...]) -> Page:
    """The page asked for; `orders` are the names that can be sorted by, the default first.

    Raises:
        Invalid: an option is out of its limits, naming it.
    """
    order, descending = _read_order(query.get("$orderby"), orders)
    return Page(
        skip=_read_number(query, "$skip", default=0, least=0, most=_MAX_SKIP),
        top=_read_number(query, "$top", default=DEFAULT_TOP, least=1, most=MAX_TOP),
        order=order,
        descending=descending,
    )


def next_link(base: str, path: str, page: Page, **more: str) -> str:
    """The page after this one, as an absolute URL."""
    options = {
        "$skip": str(page.skip + page.top),
        "$top": str(page.top),
        "$orderby": f"{page.order} {'desc' if page.descending else 'asc'}",
        **more,
    }
    return link(base, path, options)


def link(base: str, path: str, options: Mapping[str, str]) -> str:
    """A list with these options, as an absolute URL that needs nothing added: clients send it as it is.

    `$` and `'` are escaped: the npm client passes the link through a JavaScript string replacement, where
    they have a meaning.
    """
    query = urlencode({"api-version": API_VERSION, **options}, quote_via=quote)
    return f"{base}{path}?{query}"


def read_devices_top(query: Mapping[str, str]) -> int:
    """How many devices a page is to hold. More than there can be is no error.

    Raises:
        Invalid: it is no whole number from 1 on.
    """
    text = query.get("$top", str(DEVICES_TOP))
    digits = text.lstrip("0")
    if not text.isascii() or not text.isdecimal() or not digits:
        raise Invalid("$top is out of range.", hint="It takes a whole number from 1 on.")
    return min(int(digits[: len(str(DEVICES_TOP)) + 1]), DEVICES_TOP)


def _read_number(query: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise Invalid(f"{name} is out of range.", hint=f"It takes a whole number from {least} to {most}.")
    return int(text)


def _read_order(text: str | None, orders: tuple[str, ...]) -> tuple[str, bool]:
    if text is None:
        return orders[0], False
    names = {name.lower(): name for name in orders}
    match text.lower().split():
        case [name] if name in names:
            return names[name], False
        case [name, ("asc" | "desc") as direction] if name in names:
            return names[name], direction == "desc"
    raise Invalid(
        "$orderby is not understood.", hint=f"It takes one of {', '.join(orders)}, then asc or desc."
    )
