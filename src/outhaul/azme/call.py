"""A request that was let in: what every operation is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from outhaul.azme.request import Request
    from outhaul.ledger.ledger import Installation


class Call(NamedTuple):
    """`names` are the values in the path, by the name that its template gives them."""

    request: Request
    installation: Installation
    names: dict[str, str]
