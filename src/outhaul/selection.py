"""What of an export's rows is taken: which columns, which rows, and how values are disguised.

Checked once at the door; written as SQL for the engine, of documented columns and quoted values only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul import instants
from outhaul.errors import Invalid
from outhaul.schema import EXPORTS, Column
from outhaul.sql import instant, named, quoted
from outhaul.wire import Truncate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outhaul.wire import ExportRequest, Filter, Mask, Scalar

MAX_CONDITIONS = 200
MAX_DEPTH = 10
MAX_VALUES = 10_000
"""Values in all `in` lists of a filter together."""
_INTEGER_BITS = 63
_BLOCK = 64
_COMPARISONS = {"eq": "=", "ne": "=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TEXTS = ("string", "identifier")
_NUMBERS = ("integer", "duration")
_WHOSE = ("deviceId", "userId")


def check(request: ExportRequest) -> None:
    """Let columns, filter and mask pass if they fit the kind of export.

    Raises:
        Invalid: they do not, naming the member.
    """
    known = _known(request)
    names = [column.name for column in _chosen(request)]
    for name in names:
        _find(known, name, "columns")
    if request.columns is not None and (not names or len(set(names)) < len(names)):
        raise Invalid(
            "columns is empty, or names one twice.", hint="Name each column once, in the order wanted."
        )
    for name, mask in (request.mask or {}).items():
        column = _find(known, name, "mask")
        if name not in names:
            raise Invalid(
                f"mask.{name}: the column is not among those exported.", hint="Leave it out of mask."
            )
        _check_mask(column, mask)
        if column.type == "time" and EXPORTS[request.kind].personal and "record" in names and mask != "drop":
            raise Invalid(
                f"mask.{name}: record tells the same time uncut.", hint="Leave record out of columns."
            )
    if not columns(request):
        raise Invalid("mask drops every column.", hint="Leave at least one.")
    if request.where is not None:
        _Check(known).filter(request.where, "where", 1)


def columns(request: ExportRequest) -> tuple[Column, ...]:
    """The columns of the file, in order, with the types they have there."""
    masks = request.mask or {}
    return tuple(
        column._replace(type="string") if masks.get(column.name) == "hash" else column
        for column in _chosen(request)
        if masks.get(column.name) != "drop"
    )


def projection(request: ExportRequest, key: bytes) -> str:
    """The list of columns to select from the export's rows; `key` is what texts are hashed with."""
    masks = request.mask or {}
    return ", ".join(
        f"{_masked(column, masks.get(column.name), key)} AS {named(column.name)}"
        for column in columns(request)
    )


def members(request: ExportRequest, found: tuple[Column, ...], key: bytes) -> tuple[list[Column], str]:
    """The members of a record that is exported as one object, and the list that selects them.

    Whose it is stands in columns beside it, and is masked in it as it is there.
    """
    masks = {name: mask for name, mask in (request.mask or {}).items() if name in _WHOSE}
    kept = [column for column in found if masks.get(column.name) != "drop"]
    values = (f"{_masked(column, masks.get(column.name), key)} AS {named(column.name)}" for column in kept)
    return kept, ", ".join(values)


def condition(request: ExportRequest) -> str:
    """The condition that a row must meet, on the columns before they are masked; empty if there is none."""
    return _condition(request.where, _known(request)) if request.where is not None else ""


def _known(request: ExportRequest) -> dict[str, Column]:
    export = EXPORTS[request.kind]
    return {column.name: column for column in (*export.columns, *export.more)}


def _chosen(request: ExportRequest) -> list[Column]:
    if request.columns is None:
        return list(EXPORTS[request.kind].columns)
    known = _known(request)
    return [_find(known, name, "columns") for name in request.columns]


def _find(known: Mapping[str, Column], name: str, where: str) -> Column:
    if name not in known:
        raise Invalid(f"{where}: there is no column {name[:80]!r}.", hint=f"There are {', '.join(known)}.")
    return known[name]


# Masks


def _check_mask(column: Column, mask: Mask) -> None:
    if mask == "drop":
        return
    at = f"mask.{column.name}"
    if mask == "hash":
        if column.type not in _TEXTS:
            raise Invalid(f"{at}: only text can be hashed.", hint=f"It is {column.type}: drop it instead.")
        return
    to = mask.truncate if isinstance(mask, Truncate) else None
    if isinstance(to, int) and not (column.type in _TEXTS and to > 0):
        raise Invalid(
            f"{at}: only text is cut to a number of characters, 1 or more.", hint="Drop it instead."
        )
    if isinstance(to, str) and column.type != "time":
        raise Invalid(f"{at}: only times are cut to a unit.", hint="Give a number of characters for text.")


def _masked(column: Column, mask: Mask | None, key: bytes) -> str:
    name = named(column.name)
    if mask == "hash":
        return _hmac(name, key)
    if isinstance(mask, Truncate):
        to = mask.truncate
        # The engine's days are UTC's: it runs in that time zone.
        return f"date_trunc({quoted(to)}, {name})" if isinstance(to, str) else f"left({name}, {to})"
    return name


def _hmac(name: str, key: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) of a text, as the engine's own hashes make it; null of null."""
    padded = key.ljust(_BLOCK, b"\0")
    inner, outer = (f"unhex('{bytes(byte ^ pad for byte in padded).hex()}')" for pad in (0x36, 0x5C))
    return f"sha256({outer} || unhex(sha256({inner} || encode({name}))))"


# Filters


class _Check:
    """Walks a filter, with limits that keep its SQL small."""

    def __init__(self, known: Mapping[str, Column]) -> None:
        self._known = known
        self._conditions = 0
        self._values = 0

    def filter(self, given: Filter, at: str, depth: int) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS or depth > MAX_DEPTH:
            raise Invalid(
                "where is too large.", hint=f"At most {MAX_CONDITIONS} conditions, {MAX_DEPTH} levels deep."
            )
        forms = {"and": given.all_of, "or": given.any_of, "not": given.negated, "column": given.column}
        present = [name for name, value in forms.items() if value is not None]
        comparisons = _comparisons(given)
        if len(present) != 1 or (comparisons and given.column is None):
            raise Invalid(f"{at} is not one condition.", hint="Give exactly one of and, or, not and column.")
        if given.column is not None:
            self._comparison(given, comparisons, at)
        for name, several in (("and", given.all_of), ("or", given.any_of)):
            if several is not None and not several:
                raise Invalid(f"{at}.{name} is empty.", hint="Give it at least one condition.")
            for index, one in enumerate(several or []):
                self.filter(one, f"{at}.{name}[{index}]", depth + 1)
        if given.negated is not None:
            self.filter(given.negated, f"{at}.not", depth + 1)

    def _comparison(self, given: Filter, comparisons: dict[str, object], at: str) -> None:
        column = _find(self._known, given.column or "", f"{at}.column")
        if len(comparisons) != 1:
            raise Invalid(
                f"{at} does not compare the column with exactly one thing.",
                hint="Give one of eq, ne, lt, le, gt, ge, in, prefix and null.",
            )
        [operator] = comparisons
        at = f"{at}.{operator}"
        if operator == "null":
            return
        if column.type == "json":
            raise Invalid(f"{at}: {column.name} is an object.", hint="It can only be compared with null.")
        if operator == "prefix":
            if column.type not in _TEXTS:
                raise Invalid(f"{at}: only text has a prefix.", hint=f"{column.name} is {column.type}.")
            _literal(column, given.prefix or "", at)
        elif given.one_of is not None:
            self._values += len(given.one_of)
            if not given.one_of or self._values > MAX_VALUES:
                raise Invalid(f"{at} has none or too many values.", hint=f"Give 1 to {MAX_VALUES} in all.")
            for index, value in enumerate(given.one_of):
                _literal(column, value, f"{at}[{index}]")
        else:
            if column.type == "boolean" and operator not in {"eq", "ne"}:
                raise Invalid(f"{at}: true and false have no order.", hint="Use eq or ne.")
            _literal(column, getattr(given, operator), at)


def _comparisons(given: Filter) -> dict[str, object]:
    named_values = {
        **{operator: getattr(given, operator) for operator in _COMPARISONS},
        "in": given.one_of,
        "prefix": given.prefix,
        "null": given.null,
    }
    return {name: value for name, value in named_values.items() if value is not None}


def _literal(column: Column, value: Scalar, at: str) -> str:
    """A value as SQL of its column's type.

    Raises:
        Invalid: it is of another type.
    """
    if column.type == "identifier" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if column.type in _TEXTS and isinstance(value, str):
        if "\0" in value:
            raise Invalid(f"{at} holds a NUL character.", hint="No stored text has one.")
        return quoted(value)
    if column.type == "time" and isinstance(value, str):
        return instant(instants.read(at, value))
    if column.type == "boolean" and isinstance(value, bool):
        return str(value).lower()
    if column.type in (*_NUMBERS, "time") and isinstance(value, int) and not isinstance(value, bool):
        if column.type == "time" and 0 <= value <= instants.LAST:
            return instant(value)
        if column.type != "time" and abs(value) < 1 << _INTEGER_BITS:
            return str(value)
    expected = {
        "time": "an RFC 3339 instant or ms since 1970",
        "boolean": "true or false",
        "string": "text",
        "identifier": "text or a whole number",
    }.get(column.type, "a whole number")
    raise Invalid(f"{at} does not fit the column {column.name}.", hint=f"It takes {expected}.")


def _condition(given: Filter, known: Mapping[str, Column]) -> str:
    """A condition that fails where it is null: what is missing fails every comparison.

    Only a negation tells null from false. Elsewhere the comparison stands bare, so that the engine can hold it against
    the statistics of stored files.
    """
    if given.negated is not None:
        return f"(NOT coalesce({_condition(given.negated, known)}, false))"
    if given.column is None:
        joint = " AND " if given.all_of is not None else " OR "
        return "(" + joint.join(_condition(one, known) for one in given.all_of or given.any_of or []) + ")"
    column = known[given.column]
    name = named(column.name)
    if given.null is not None:
        return f"({name} IS {'' if given.null else 'NOT '}NULL)"
    if given.prefix is not None:
        compared = f"starts_with({name}, {_literal(column, given.prefix, 'where')})"
    elif given.one_of is not None:
        compared = f"{name} IN ({', '.join(_literal(column, value, 'where') for value in given.one_of)})"
    else:
        [operator] = _comparisons(given)
        compared = f"{name} {_COMPARISONS[operator]} {_literal(column, getattr(given, operator), 'where')}"
    return f"(NOT coalesce({compared}, false))" if given.ne is not None else f"({compared})"
