"""`$filter` and `$select` of a list of devices: read, applied, and written again for the next page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from outhaul.errors import Invalid
from outhaul.records import KEY_PATTERN

if TYPE_CHECKING:
    from outhaul.tables import Device

META = ("firstSeen", "lastSeen", "lastInfo", "lastLocation", "nativePushEnabled")

_OPERATORS = ("gt", "ge", "lt", "le")
_PLAIN_LIMIT = 2**31 - 1
_LIMIT = 2**63 - 1
_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|([0-9]+[Ll]?)(?![A-Za-z0-9_])|([A-Za-z_][A-Za-z0-9_]*)|([()]))")
_KEY = re.compile(KEY_PATTERN)


class Filter(Struct, frozen=True, kw_only=True):
    """Which devices and which of their properties: bounds on ids and on times of change, in ms.

    `low` is an id and whether it is out itself; `high` an id and whether it is in; `since` and `until` are both in.
    """

    low: tuple[str, bool] = ("", True)
    high: tuple[str, bool] | None = None
    since: int = 0
    until: int | None = None

    @property
    def before(self) -> str | None:
        """The least id that is too high."""
        if self.high is None:
            return None
        text, included = self.high
        return text + "\0" if included else text

    @property
    def by_time(self) -> bool:
        return self.since > 0 or self.until is not None

    @property
    def never(self) -> bool:
        """Whether no time is within the bounds."""
        return self.until is not None and self.until < self.since

    def after(self, device_id: str) -> Filter:
        """The same for the devices after one."""
        return replace(self, low=max(self.low, (device_id, True)))

    def holds(self, modified: int) -> bool:
        """Whether something that changed at a time is within the bounds."""
        return self.since <= modified and (self.until is None or modified <= self.until)

    def text(self) -> str:
        """As `$filter` has it. Not longer from page to page: bounds that are met by others are left out."""
        low, out = self.low
        checks = [f"deviceId {'gt' if out else 'ge'} {_quoted(low)}"]
        if self.high is not None:
            high, included = self.high
            checks.append(f"deviceId {'le' if included else 'lt'} {_quoted(high)}")
        if self.since > 0:
            checks.append(f"lastModified gt {self.since - 1}L")
        if self.until is not None:
            checks.append(f"lastModified le {self.until}L")
        return " and ".join(checks)

    def narrowed(self, operator: str, value: str | int) -> Filter:
        """With one more check: of ids by text, of times by a number."""
        if isinstance(value, str):
            if operator in {"gt", "ge"}:
                return replace(self, low=max(self.low, (value, operator == "gt")))
            highest = (value, operator == "le")
            return replace(self, high=highest if self.high is None else min(self.high, highest))
        if operator in {"gt", "ge"}:
            return replace(self, since=max(self.since, value + (operator == "gt")))
        latest = value - (operator == "lt")
        return replace(self, until=latest if self.until is None else min(self.until, latest))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def read_filter(text: str | None) -> Filter:
    """The filter asked for; None is all devices.

    Raises:
        Invalid: it is not of the grammar, saying what is wrong.
    """
    if text is None:
        return Filter()
    tokens = _Tokens(text)
    found = Filter()
    depth = 0
    while True:
        while tokens.next_is("("):
            depth += 1
        found = found.narrowed(*tokens.comparison())
        while tokens.next_is(")"):
            depth -= 1
            if depth < 0:
                raise _wrong("a parenthesis closes that was not opened")
        if tokens.at_end():
            break
        tokens.conjunction()
    if depth:
        raise _wrong("a parenthesis is not closed")
    return found


class _Tokens:
    """The words of a filter, taken one by one. Texts keep a quote in front, so that they differ from names."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._place = 0

    def at_end(self) -> bool:
        return self._place == len(self._text)

    def next_is(self, sign: str) -> bool:
        """Whether the next is this sign, which is then taken."""
        place = self._place
        if not self.at_end() and self._take() == sign:
            return True
        self._place = place
        return False

    def comparison(self) -> tuple[str, str | int]:
        """The operator, and what is compared with: text for `deviceId`, a number for `lastModified`."""
        name = self._take()
        if name.lower() not in {"deviceid", "lastmodified"}:
            raise _wrong(f"{name[:40]!r} is not deviceId or lastModified")
        operator = self._take().lower()
        if operator not in _OPERATORS:
            raise _wrong(f"{operator[:40]!r} is not one of {', '.join(_OPERATORS)}")
        return operator, self._text_value() if name.lower() == "deviceid" else self._number()

    def conjunction(self) -> None:
        word = self._take()
        if word.lower() != "and":
            raise _wrong(f"{word[:40]!r} stands where only `and` can")

    def _text_value(self) -> str:
        value = self._take()
        if not value.startswith("'"):
            raise _wrong("deviceId is compared with text in single quotes")
        return value[1:]

    def _number(self) -> int:
        value = self._take()
        digits = value.rstrip("Ll")
        if not digits.isdecimal():
            raise _wrong("lastModified is compared with a whole number of ms")
        number = int(digits) if len(digits) <= len(str(_LIMIT)) else _LIMIT + 1
        if number > _LIMIT:
            raise _wrong(f"{digits[:40]} is over 2^63-1")
        if number > _PLAIN_LIMIT and digits == value:
            raise _wrong(f"{digits} needs an L behind it, as every number over 2^31-1")
        return number

    def _take(self) -> str:
        if self.at_end():
            raise _wrong("it ends too early")
        found = _TOKEN.match(self._text, self._place)
        if found is None:
            raise _wrong(f"{self._text[self._place :].strip()[:40]!r} cannot be read")
        self._place = found.end()
        text, number, name, sign = found.groups()
        return "'" + text.replace("''", "'") if text is not None else number or name or sign


def _wrong(what: str) -> Invalid:
    return Invalid(
        f"$filter is not understood: {what}.",
        hint="It takes deviceId gt|ge|lt|le 'text' and lastModified gt|ge|lt|le 1447284263690L, joined by and.",
    )


class Selection(Struct, frozen=True, kw_only=True):
    """Which properties of devices: names in `meta`, and keys of `appInfo`, of which None is all."""

    meta: frozenset[str] = frozenset(META)
    app_info: frozenset[str] | None = None

    def of_meta(self, device: Device, within: Filter) -> dict[str, int | bool]:
        """The properties in `meta` that are selected, and changed within the bounds."""
        return {
            name: value
            for name, (value, modified) in _meta(device).items()
            if name in self.meta and within.holds(modified)
        }

    def of_app_info(self, device: Device, within: Filter) -> dict[str, str]:
        """The tags that are selected, and were set within the bounds."""
        return {
            key: tag.value
            for key, tag in device.tags.items()
            if (self.app_info is None or key in self.app_info) and within.holds(tag.last_modified)
        }


def meta_of(device: Device) -> dict[str, int | bool]:
    """`meta` of a device: times in ms, and whether it takes native pushes."""
    return {name: value for name, (value, _) in _meta(device).items()}


def _meta(device: Device) -> dict[str, tuple[int | bool, int]]:
    """Each property with when it changed, which for times is the time itself."""
    times = {
        "firstSeen": device.first_seen,
        "lastSeen": device.last_seen,
        "lastInfo": device.last_info,
        "lastLocation": device.last_location,
    }
    told = [token.registered_at for token in device.tokens]
    if device.last_info is not None:
        told.append(device.last_info)
    return {
        **{name: (time, time) for name, time in times.items() if time is not None},
        "nativePushEnabled": (device.native_push_enabled, max(told, default=device.first_seen)),
    }


def read_selection(text: str | None) -> Selection:
    """The properties asked for; None is all of them.

    Raises:
        Invalid: one of them is none, naming it.
    """
    if text is None:
        return Selection()
    meta: set[str] = set()
    keys: set[str] = set()
    every_key = False
    names = {name.lower(): name for name in META}
    for item in (part.strip() for part in text.split(",")):
        group, slash, name = item.partition("/")
        match group.lower(), slash, name:
            case "meta", "", _:
                meta.update(META)
            case "meta", _, _ if name.lower() in names:
                meta.add(names[name.lower()])
            case "appinfo", "", _:
                every_key = True
            case "appinfo", _, _ if _KEY.search(name):
                keys.add(name)
            case _:
                raise Invalid(
                    f"$select has {item[:80]!r}, which is no property of a list.",
                    hint=f"It takes appInfo, meta, appInfo/KEY and meta/ with {', '.join(META)}.",
                )
    return Selection(meta=frozenset(meta), app_info=None if every_key else frozenset(keys))
