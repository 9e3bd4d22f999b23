"""Checks of the old API, collected by number in the test modules that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[..., None]


class Checks(dict[int, Any]):
    """`@check(7)` above a function makes it this module's check 7."""

    def __call__(self, number: int) -> Callable[[Check], Check]:
        def enter(function: Check) -> Check:
            assert number not in self, f"check {number} is there twice"
            self[number] = function
            return function

        return enter
