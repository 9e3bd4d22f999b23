"""Conditions on columns, written as Python does: `(col("name") == "open") & col("userId").is_null()`."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, NoReturn

from outhaul.client.moments import moment
from outhaul.errors import Invalid
from outhaul.wire import Filter, Scalar

if TYPE_CHECKING:
    from collections.abc import Iterable

Value = Scalar | date | datetime
"""What a column is compared with; a date or an aware datetime for a column that holds times."""


class Condition(Filter, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A filter that joins with others: `a & b`, `a | b`, `~a`."""

    def __and__(self, other: Filter) -> Condition:
        # Joined side by side, not nested: the server bounds how deep a filter may be.
        return Condition(all_of=[*(self.all_of or [self]), *(other.all_of or [other])])

    def __or__(self, other: Filter) -> Condition:
        return Condition(any_of=[*(self.any_of or [self]), *(other.any_of or [other])])

    def __invert__(self) -> Condition:
        return Condition(negated=self)

    def __bool__(self) -> NoReturn:
        # `a and b` would be `b` alone, and `1 < col("x") < 5` only its second half.
        raise Invalid(
            "A condition is neither true nor false before the server looks at the rows.",
            hint="Join conditions by & and | and ~, each in parentheses, not by `and`, `or`, `not` or a chain.",
        )


class Column:
    """A column of an export, to be compared; of two comparisons of missing values only `!=` and `is_null` hold."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"col({self._name!r})"

    def __eq__(self, value: Value) -> Condition:  # type: ignore[override]
        return Condition(column=self._name, eq=self._scalar(value))

    def __ne__(self, value: Value) -> Condition:  # type: ignore[override]
        return Condition(column=self._name, ne=self._scalar(value))

    def __lt__(self, value: Value) -> Condition:
        return Condition(column=self._name, lt=self._scalar(value))

    def __le__(self, value: Value) -> Condition:
        return Condition(column=self._name, le=self._scalar(value))

    def __gt__(self, value: Value) -> Condition:
        return Condition(column=self._name, gt=self._scalar(value))

    def __ge__(self, value: Value) -> Condition:
        return Condition(column=self._name, ge=self._scalar(value))

    def is_in(self, values: Iterable[Value]) -> Condition:
        return Condition(column=self._name, one_of=[self._scalar(value) for value in values])

    def startswith(self, prefix: str) -> Condition:
        return Condition(column=self._name, prefix=prefix)

    def is_null(self) -> Condition:
        return Condition(column=self._name, null=True)

    def _scalar(self, value: Value) -> Scalar:
        if isinstance(value, date):
            return moment(self._name, value)
        if not isinstance(value, str | int | float):
            raise Invalid(
                f"{self._name} cannot be compared with {value!r}.",
                hint="Compare with text, a number, a boolean, a date or an aware datetime; for no value, is_null().",
            )
        return value


def col(name: str) -> Column:
    """The column of that name, to be compared: `col("name") == "open"`."""
    return Column(name)
