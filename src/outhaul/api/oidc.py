"""Access tokens of an outside OpenID provider: signature, issuer, audience, time, role. The only import of PyJWT."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

import httpx2
import jwt
import msgspec
from msgspec import Struct

from outhaul.errors import Busy, Forbidden, Invalid, OuthaulError, Unauthenticated
from outhaul.wire import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outhaul.config import Config

LEEWAY_S = 60
"""How far the provider's clock may be from ours."""
REFETCH_MS = 30_000
"""Keys are asked for at most this often, whatever key a token names."""
RETRY_MS = 5000
"""The same after the provider did not answer, or not with keys."""
FRESH_MS = 3600_000
"""After this time keys are asked for again, while those at hand are believed."""
STALE_MS = 24 * 3600_000
"""After this time keys that could not be asked for again are not believed any more."""

_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By the type of key: nothing symmetric, since anybody can know a public key, and never `none`."""
_STRENGTH: tuple[Role, ...] = ("reader", "contributor", "owner")
_SUBJECT_LIMIT = 128
_TIMEOUT_S = 5
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_DISCOVERY = "/.well-known/openid-configuration"

_log = logging.getLogger(__name__)


class Bearer(Struct, frozen=True):
    """Who a token speaks for. `expires_at` is ms since 1970 UTC."""

    subject: str
    role: Role
    expires_at: int


class _Key(Struct, frozen=True):
    kid: str | None
    public: jwt.PyJWK
    algorithms: tuple[str, ...]


class _Claims(Struct):
    sub: str
    exp: float
    nbf: float = 0


class _Discovery(Struct):
    issuer: str
    jwks_uri: str


class _KeySet(Struct):
    keys: list[dict[str, Any]]


class Settings(Struct, frozen=True):
    """What is configured of a provider, checked."""

    issuer: str
    audience: str
    jwks_url: str
    claim: str
    roles: dict[str, Role]


def read_settings(config: Config) -> Settings | None:
    """The provider that is configured, or None.

    Raises:
        Invalid: a setting is missing or cannot be, naming it.
    """
    if not config.oidc_issuer:
        return None
    for name in ("oidc_audience", "oidc_roles_claim", "oidc_roles"):
        if not getattr(config, name):
            raise Invalid(
                f"OUTHAUL_OIDC_ISSUER is set, but OUTHAUL_{name.upper()} is not.",
                hint="docs/access.md says how a provider is set up.",
            )
    for name in ("oidc_issuer", "oidc_jwks_url"):
        if (url := getattr(config, name)) and not _is_safe(url):
            raise Invalid(
                f"OUTHAUL_{name.upper()} is {url!r}.",
                hint="It takes an https URL; plain http only on this machine itself, for who can change "
                "the keys on their way can be anybody.",
            )
    return Settings(
        issuer=config.oidc_issuer,
        audience=config.oidc_audience,
        jwks_url=config.oidc_jwks_url,
        claim=config.oidc_roles_claim,
        roles=_read_roles(config.oidc_roles),
    )


def _read_roles(text: str) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for pair in text.split(","):
        value, equals, name = (part.strip() for part in pair.rpartition("="))
        role = next((role for role in _STRENGTH if role == name), None)
        if not equals or not value or role is None:
            raise Invalid(
                f"OUTHAUL_OIDC_ROLES has {pair.strip()!r}.",
                hint=f"It takes pairs VALUE=ROLE with a comma between; a role is {', '.join(get_args(Role))}.",
            )
        roles[value] = role
    return roles


class Provider:
    """The provider, with its keys in memory. `now` gives ms since 1970 UTC; for use on an event loop."""

    def __init__(self, settings: Settings, now: Callable[[], int]) -> None:
        self._settings = settings
        self._now = now
        self._keys: list[_Key] = []
        self._fetched_at: int | None = None
        self._tried_at: int | None = None
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def read(self, token: str) -> Bearer:
        """Who a token speaks for.

        Raises:
            Unauthenticated: it is not a token of this provider for this server, or not one that is good now.
            Forbidden: it says no role that is known here.
            Busy: the provider's keys could not be fetched.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refused("it cannot be read") from None
        key = await self._key(header.get("kid"))
        try:
            # Times are checked below, against our own clock. Nothing is looked at before the signature.
            options: Any = {
                "require": ["exp", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "enforce_minimum_key_length": True,
            }
            payload = jwt.decode(
                token,
                key.public.key,
                algorithms=key.algorithms,
                options=options,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
            )
            claims = msgspec.convert(payload, _Claims)
            expires_at, valid_from = int(claims.exp * 1000), int(claims.nbf * 1000)
        except jwt.InvalidAudienceError:
            raise _refused(f"it is not for the audience {self._settings.audience}") from None
        except jwt.InvalidIssuerError:
            raise _refused(f"it is not from the issuer {self._settings.issuer}") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"it has no claim {error.claim}") from None
        except (jwt.PyJWTError, msgspec.ValidationError, TypeError, ValueError, OverflowError):
            raise _refused("its signature or its claims are wrong") from None
        self._check_time(expires_at, valid_from)
        if not claims.sub.isprintable() or not 0 < len(claims.sub) <= _SUBJECT_LIMIT:
            # Cut short it could be somebody else.
            raise _refused(f"its claim sub is not 1 to {_SUBJECT_LIMIT} printable characters")
        return Bearer(subject=claims.sub, role=self._role(payload), expires_at=expires_at)

    def _check_time(self, expires_at: int, valid_from: int) -> None:
        if expires_at + LEEWAY_S * 1000 <= self._now():
            raise Unauthenticated(
                "The token has expired.", hint="Ask the OpenID provider for a new one.", code="token_expired"
            )
        if valid_from - LEEWAY_S * 1000 > self._now():
            raise _refused("it is not valid yet")

    def _role(self, payload: Mapping[str, Any]) -> Role:
        claim = self._settings.claim
        said = _find(payload, claim)
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        names = [value for value in values if isinstance(value, str)]
        roles = {self._settings.roles[name] for name in names if name in self._settings.roles}
        if not roles:
            raise Forbidden(
                f"The token's claim {claim!r} holds no role that is known here.",
                hint="Have the OpenID provider give the caller one of the roles in OUTHAUL_OIDC_ROLES.",
            )
        return max(roles, key=_STRENGTH.index)

    # Keys

    async def _key(self, kid: Any) -> _Key:
        now = self._now()
        if self._fetched_at is not None and now - self._fetched_at >= STALE_MS:
            self._keys = []
        key = self._known(kid)
        if key is None:
            if self._may_fetch(now):
                self._fetch(now)
            if self._fetching is not None:
                # One that hangs up must not take along the others that wait for the same keys.
                await asyncio.shield(self._fetching)
            key = self._known(kid)
        elif self._fetched_at is not None and now - self._fetched_at >= FRESH_MS and self._may_fetch(now):
            self._fetch(now)
        if key is not None:
            return key
        if self._failing or not self._keys:
            raise Busy("The OpenID provider's keys cannot be fetched now.", hint="Try again later.")
        raise _refused("it is signed with a key that the provider does not show")

    def _known(self, kid: str | None) -> _Key | None:
        if kid is None:
            # Allowed where there can be no doubt.
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    def _may_fetch(self, now: int) -> bool:
        pause = RETRY_MS if self._failing else REFETCH_MS
        return self._fetching is None and (self._tried_at is None or not 0 <= now - self._tried_at < pause)

    def _fetch(self, now: int) -> None:
        self._tried_at = now
        self._fetching = asyncio.create_task(self._replace(now))

    async def _replace(self, now: int) -> None:
        try:
            self._keys = await asyncio.to_thread(_fetch_keys, self._settings)
            self._fetched_at, self._failing = now, False
        except (OuthaulError, httpx2.HTTPError, httpx2.InvalidURL, msgspec.MsgspecError) as error:
            self._failing = True
            _log.warning("The OpenID provider's keys cannot be fetched: %s: %s", type(error).__name__, error)
        finally:
            self._fetching = None


def _fetch_keys(settings: Settings) -> list[_Key]:
    url = settings.jwks_url or _discover(settings.issuer)
    shown = msgspec.json.decode(_get(url), type=_KeySet).keys
    return [key for key in map(_read_key, shown) if key is not None]


def _discover(issuer: str) -> str:
    found = msgspec.json.decode(_get(issuer.rstrip("/") + _DISCOVERY), type=_Discovery)
    if found.issuer != issuer:
        raise Invalid(f"It calls itself {found.issuer!r}.", hint=f"OUTHAUL_OIDC_ISSUER is {issuer!r}.")
    if not _is_safe(found.jwks_uri):
        raise Invalid(f"Its keys are at {found.jwks_uri!r}.", hint="They must be at an https URL.")
    return found.jwks_uri


def _get(url: str) -> bytes:
    # A redirect is not followed: where keys come from is for the operator to say.
    return httpx2.get(url, timeout=_TIMEOUT_S).raise_for_status().content


def _read_key(shown: dict[str, Any]) -> _Key | None:
    """A key to check signatures with, or None if it is for something else, or is none that is known here."""
    algorithms = _ALGORITHMS.get(str(shown.get("kty")), ())
    named = shown.get("alg")
    if named is not None:
        algorithms = tuple(algorithm for algorithm in algorithms if algorithm == named)
    if not algorithms or shown.get("use", "sig") != "sig":
        return None
    try:
        public = jwt.PyJWK(shown)
    except jwt.PyJWTError:
        return None
    kid = shown.get("kid")
    return _Key(kid=kid if isinstance(kid, str) else None, public=public, algorithms=algorithms)


def _find(payload: Mapping[str, Any], claim: str) -> Any:
    """A claim by its name, or by a path of names with dots between, as some providers nest theirs."""
    if claim in payload:
        return payload[claim]
    found: Any = payload
    for name in claim.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL))


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"The token is refused: {why}.", hint="Ask the OpenID provider for another one.")
