"""Buckets of Google Cloud Storage, by service account."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from obstore.store import GCSStore

from outhaul.address import Address, parse, parse_bucket
from outhaul.container.failures import Words
from outhaul.container.members import only, read_endpoint
from outhaul.container.s3 import MAX_PARTS
from outhaul.errors import Invalid
from outhaul.keys import sign_rs256

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ClientConfig, GCSCredential, RetryConfig

    from outhaul.wire import Destination

ENDPOINT = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_LIFETIME = timedelta(hours=1)
_WORDS = Words(
    noun="bucket",
    credential="service account",
    ask="Ask again with a service account that may write there (role Storage Object User).",
    misfit="Does it speak Google Cloud Storage's XML API? Check destination.endpoint.",
    hints={
        "AccessDenied": "The service account may not write objects there. ",
        "AuthenticationRequired": "Its key was deleted, or this server's clock is wrong. ",
        "InvalidSecurity": "Its key was deleted, or this server's clock is wrong. ",
        "UserProjectAccountProblem": "The project's billing account refuses it. ",
    },
)

_READING = replace(
    _WORDS,
    ask="Retry with a service account that may read there (role Storage Object Viewer).",
    hints={**_WORDS.hints, "AccessDenied": "The service account may not read the object. "},
)


@dataclass(frozen=True)
class GcsStorage:
    """A bucket; the service account's key signs tokens and is sent to nobody."""

    address: Address
    fixed: bool
    """The endpoint is Google's own, not one that was given."""
    bucket: str
    folder: tuple[str, ...]
    email: str = field(repr=False)
    key_id: str = field(repr=False)
    private_key: str = field(repr=False)

    words = _WORDS
    reading = _READING
    max_parts = MAX_PARTS
    ends = None
    endless = True

    @property
    def site(self) -> str:
        return self.address.site

    @property
    def place(self) -> tuple[object, ...]:
        return (self.address, self.bucket, self.folder)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.key_id, self.private_key)

    def complaint(self, now: float, *, reading: bool = False) -> str:  # noqa: ARG002  a service account says nothing of itself
        return ""

    def credential(self, until: datetime | None) -> GCSCredential:
        now = datetime.now(UTC)
        return {"token": self.bearer(now), "expires_at": until or now + _LIFETIME}

    def open(
        self, credential: Callable[[], GCSCredential], client: ClientConfig, retry: RetryConfig
    ) -> GCSStore:
        return GCSStore(
            self.bucket,
            base_url=self.address.origin,
            credential_provider=credential,
            client_options=client,
            retry_config=retry,
        )

    def bearer(self, now: datetime) -> str:
        """Sign a token that Google takes in place of one from its token endpoint, so that nobody else is asked.

        It is a JSON Web Token as Google's "Service account authorization without OAuth" describes it.
        """
        header = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        issued = int(now.timestamp())
        claims = {
            "iss": self.email,
            "sub": self.email,
            "scope": SCOPE,
            "iat": issued,
            "exp": issued + int(_LIFETIME.total_seconds()),
        }
        signed = b".".join(_base64(msgspec.json.encode(part)) for part in (header, claims))
        return b".".join((signed, _base64(sign_rs256(self.private_key, signed)))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def read(destination: Destination) -> GcsStorage:
    """Understand a destination. Of the service account, only its address and its key are used.

    The addresses in it (`token_uri` and others) could lead anywhere and are never asked.

    Raises:
        Invalid: the URL names no bucket, or a member is missing, malformed or does not belong to it.
    """
    bucket = parse_bucket(destination.url)
    only(destination, "a gs:// URL", "service_account", "endpoint")
    account = destination.service_account
    if account is None:
        raise Invalid(
            "destination.serviceAccount is missing.",
            hint="A gs:// URL needs the JSON object of a service account's key; this server's own is never used.",
        )
    endpoint = parse(ENDPOINT) if destination.endpoint is None else read_endpoint(destination.endpoint)
    storage = GcsStorage(
        address=replace(endpoint, segments=(bucket.name, *bucket.folder)),
        fixed=destination.endpoint is None,
        bucket=bucket.name,
        folder=bucket.folder,
        email=_text(account, "client_email"),
        key_id=_text(account, "private_key_id"),
        private_key=_text(account, "private_key"),
    )
    try:
        storage.bearer(datetime.now(UTC))
    except ValueError:
        # What the parser says could quote the key.
        raise Invalid(
            "destination.serviceAccount.private_key is not an RSA key.",
            hint="Give the JSON as Google made it.",
        ) from None
    return storage


def _text(account: dict[str, Any], name: str) -> str:
    value = account.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid(
            f"destination.serviceAccount has no {name}.",
            hint="Give the JSON of a service account's key, whole.",
        )
    return value
