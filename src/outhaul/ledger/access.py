"""Who may ask: credentials of the OAuth clients, API tokens, and the log of what was done with them."""

from __future__ import annotations

import uuid
from typing import Literal

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from outhaul import keys
from outhaul.errors import Conflict, Invalid, NotFound
from outhaul.ledger.store import Store, check_name, to_row, to_struct
from outhaul.ledger.tables import audit, credentials, tokens
from outhaul.wire import Role, Scope  # noqa: TC001  msgspec resolves them at run time

TOKEN_PREFIX = "outhaul_"  # noqa: S105  how every secret of an API token begins, not one itself
NAME_LIMIT = 128
"""Characters in the name of an API token."""


class Credential(Struct, frozen=True, rename="camel"):
    """Who may ask. The secret was shown once; here is only its hash."""

    client_id: str
    name: str
    secret_hash: str
    role: Role
    created_at: int


class ApiToken(Struct, frozen=True, rename="camel", kw_only=True):
    """What a bearer may do, in one app or (`app_id` of None) in all. Secrets are here as hashes only.

    After a rotation the secret before is good until `previous_until` as well.
    """

    token_id: str
    name: str
    app_id: str | None
    scopes: list[Scope]
    secret_hash: str
    created_at: int
    created_by: str
    expires_at: int | None = None
    previous_hash: str | None = None
    previous_until: int | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None

    def over(self, now: int) -> Literal["revoked", "expired"] | None:
        """Whether and why none of its secrets is good any more at a time."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else None

    def usable(self, secret_hash: str, now: int) -> bool:
        """Whether the secret with this hash is good at a time."""
        if self.over(now) is not None:
            return False
        if secret_hash == self.secret_hash:
            return True
        return (
            secret_hash == self.previous_hash
            and self.previous_until is not None
            and now < self.previous_until
        )


class AuditEntry(Struct, frozen=True, rename="camel", kw_only=True):
    """Who did what to what, when. `id` orders entries made at the same time; 0 before it is recorded."""

    at: int
    actor: str
    action: str
    target: str
    app_id: str | None = None
    request_id: str | None = None
    id: int = 0


class Access(Store):
    # Credentials

    def create_credential(self, name: str, role: Role, now: int) -> tuple[Credential, str]:
        """Make a credential; the second value is its secret, which nobody can show again.

        Raises:
            Invalid: the name has characters that do not belong in it.
            Conflict: there is one of that name.
        """
        check_name(name)
        secret = keys.new_secret()
        credential = Credential(
            client_id=str(uuid.uuid4()),
            name=name,
            secret_hash=keys.hash_secret(secret),
            role=role,
            created_at=now,
        )
        try:
            with self._write() as connection:
                connection.execute(sa.insert(credentials).values(msgspec.structs.asdict(credential)))
        except sa.exc.IntegrityError:
            raise Conflict(f"There is a credential {name!r} already.", hint="Choose another name.") from None
        return credential, secret

    def credentials(self) -> list[Credential]:
        """All credentials, in order of creation."""
        rows = self._read(sa.select(credentials).order_by(credentials.c.created_at))
        return [to_struct(row, Credential) for row in rows]

    def credential(self, client_id: str) -> Credential | None:
        rows = self._read(sa.select(credentials).where(credentials.c.client_id == client_id))
        return to_struct(rows[0], Credential) if rows else None

    # API tokens

    def issue_token(
        self,
        name: str,
        scopes: list[Scope],
        app_id: str | None,
        expires_at: int | None,
        created_by: str,
        now: int,
    ) -> tuple[ApiToken, str]:
        """Make a token; the second value is its secret, which nobody can show again.

        Raises:
            Invalid: the name cannot be shown on one line.
            Conflict: there is one of that name that is not revoked: what it does is logged under its name.
        """
        if not name.isprintable() or name != name.strip() or not 0 < len(name) <= NAME_LIMIT:
            raise Invalid(
                f"The name {name[:NAME_LIMIT]!r} cannot be used.",
                hint=f"Use 1 to {NAME_LIMIT} printable characters, without a space at either end.",
            )
        secret = TOKEN_PREFIX + keys.new_secret()
        token = ApiToken(
            token_id=str(uuid.uuid4()),
            name=name,
            app_id=app_id,
            scopes=list(dict.fromkeys(scopes)),
            secret_hash=keys.hash_secret(secret),
            created_at=now,
            created_by=created_by,
            expires_at=expires_at,
        )
        same = sa.select(tokens.c.token_id).where(tokens.c.name == name, tokens.c.revoked_at.is_(None))
        with self._write() as connection:
            if connection.execute(same).first() is not None:
                raise Conflict(
                    f"There is a token {name!r} already.",
                    hint="Choose another name, or revoke that token first.",
                )
            connection.execute(sa.insert(tokens).values(to_row(token)))
        return token, secret

    def rotate_token(self, token_id: str, overlap_ms: int, now: int) -> tuple[ApiToken, str]:
        """Give a token a new secret, the second value; the one before stays good for `overlap_ms`.

        Raises:
            NotFound: there is none of that id.
            Conflict: it is revoked or has expired.
        """
        secret = TOKEN_PREFIX + keys.new_secret()
        with self._write() as connection:
            token = _find_token(connection, token_id)
            if (over := token.over(now)) is not None:
                raise Conflict(
                    f"The token is {over}: a new secret would be of no use.",
                    hint="Make a new token.",
                )
            changes = {
                "secret_hash": keys.hash_secret(secret),
                "previous_hash": token.secret_hash,
                "previous_until": now + overlap_ms,
            }
            connection.execute(sa.update(tokens).where(tokens.c.token_id == token_id).values(changes))
            return _find_token(connection, token_id), secret

    def revoke_token(self, token_id: str, now: int) -> ApiToken:
        """End a token for good; one that is revoked already stays as it is.

        Raises:
            NotFound: there is none of that id.
        """
        with self._write() as connection:
            of_it = sa.and_(tokens.c.token_id == token_id, tokens.c.revoked_at.is_(None))
            connection.execute(sa.update(tokens).where(of_it).values(revoked_at=now))
            return _find_token(connection, token_id)

    def touch_token(self, token_id: str, now: int) -> None:
        """Say that a token was used."""
        with self._write() as connection:
            connection.execute(
                sa.update(tokens).where(tokens.c.token_id == token_id).values(last_used_at=now)
            )

    def tokens(self, app_id: str | None = None) -> list[ApiToken]:
        """All tokens, or those of one app, in order of creation."""
        statement = sa.select(tokens).order_by(tokens.c.created_at, tokens.c.token_id)
        if app_id is not None:
            statement = statement.where(tokens.c.app_id == app_id)
        return [to_struct(row, ApiToken) for row in self._read(statement)]

    def token(self, token_id: str) -> ApiToken:
        """One token.

        Raises:
            NotFound: there is none of that id.
        """
        with self._engine.connect() as connection:
            return _find_token(connection, token_id)

    def token_of(self, secret_hash: str) -> ApiToken | None:
        """The token whose secret, or whose secret before the last rotation, has this hash; usable or not."""
        either = (tokens.c.secret_hash == secret_hash) | (tokens.c.previous_hash == secret_hash)
        rows = self._read(sa.select(tokens).where(either))
        return to_struct(rows[0], ApiToken) if rows else None

    # The audit log

    def record(self, entries: list[AuditEntry]) -> None:
        """Add to the audit log."""
        rows = [{name: value for name, value in to_row(entry).items() if name != "id"} for entry in entries]
        with self._write() as connection:
            connection.execute(sa.insert(audit), rows)

    def audit(self, top: int, before: int | None = None, app_id: str | None = None) -> list[AuditEntry]:
        """The newest entries, at most `top`, of those with an id below `before`; all apps' unless one is given."""
        statement = sa.select(audit).order_by(audit.c.id.desc()).limit(top)
        if before is not None:
            statement = statement.where(audit.c.id < before)
        if app_id is not None:
            statement = statement.where(audit.c.app_id == app_id)
        return [to_struct(row, AuditEntry) for row in self._read(statement)]


def _find_token(connection: sa.Connection, token_id: str) -> ApiToken:
    row = connection.execute(sa.select(tokens).where(tokens.c.token_id == token_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no token {token_id[:80]!r}.", hint="List them to see which exist.")
    return to_struct(row, ApiToken)
