"""A request that was let in: what every operation is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from outhaul.api.audit import Audit
    from outhaul.azme.request import Request
    from outhaul.ledger.access import Credential
    from outhaul.ledger.ledger import Installation


class Call(NamedTuple):
    """`names` are the values in the path, by the name that its template gives them."""

    request: Request
    installation: Installation
    names: dict[str, str]
    credential: Credential
    audit: Audit

    @property
    def actor(self) -> str:
        """Who asks, as the audit log names them."""
        return f"credential:{self.credential.name}"

    async def record(self, action: str, target: str, app_id: str | None = None) -> None:
        """Write down in the audit log what is done; it is on disk when this returns."""
        await self.audit.write(self.actor, action, target, app_id, self.request.id)
