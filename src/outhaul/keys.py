"""Credentials: made, hashed, signed, encrypted. The only cryptography import."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from outhaul.errors import Invalid, Unauthenticated

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


def new_secret() -> str:
    """A secret of 256 random bits, as text that is safe in URLs and headers."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """What is stored of a secret. Secrets here are random, not chosen, so one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, hashed: str) -> bool:
    """Whether a secret is the one hashed, in time that does not depend on it."""
    return hmac.compare_digest(hash_secret(secret), hashed)


def sign_rs256(pem: str, message: bytes) -> bytes:
    """Sign as JSON Web Tokens with RS256 are (RFC 7518, section 3.3).

    Raises:
        ValueError: it is not the PEM text of an RSA private key without a password.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError  # noqa: TRY004  of any other kind it is as useless as no key
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def read_basic(header: str) -> tuple[str, str]:
    """User and password of an HTTP Basic `Authorization` header (RFC 7617).

    Raises:
        Unauthenticated: the header is not of that form.
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if colon:
            return user, password
    raise Unauthenticated(
        "The Authorization header is not HTTP Basic.", hint="Send `Basic` and base64 of user:password."
    )


class Claims(msgspec.Struct, frozen=True):
    """Who an access token speaks for. Times are seconds since 1970."""

    client_id: str
    tenant_id: str
    role: str
    issued_at: int
    expires_at: int


class Keyring:
    """Signs access tokens and encrypts what must not rest in the clear, with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        try:
            self._fernet = Fernet(key)
        except (ValueError, binascii.Error):
            raise Invalid(
                "OUTHAUL_SECRET_KEY is not a Fernet key.",
                hint="It takes 32 bytes as URL-safe base64 (44 characters).",
            ) from None

    @classmethod
    def open(cls, data: Path, configured: str) -> Keyring:
        """The key the operator configured, else the data folder's own, made the first time."""
        if configured:
            return cls(configured.encode())
        path = data / "secret.key"
        if not path.exists():
            fresh = data / f"secret.key.{secrets.token_hex(4)}"
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(Fernet.generate_key())
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never replaces the key another process made a moment ago.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(fresh)
            fresh.unlink()
        return cls(path.read_bytes())

    def issue(self, claims: Claims) -> str:
        """An access token that says so, opaque to its bearer."""
        return self._fernet.encrypt(msgspec.json.encode(claims)).decode()

    def read(self, token: str) -> Claims:
        """What an access token says, expired or not: compare `expires_at` yourself.

        Raises:
            Unauthenticated: it was not issued here.
        """
        try:
            return msgspec.json.decode(self._fernet.decrypt(token.encode()), type=Claims)
        except (InvalidToken, msgspec.MsgspecError, UnicodeEncodeError):
            raise Unauthenticated(
                "The access token was not issued by this server.",
                hint="Ask for a new one, or use an API token, which begins with outhaul_; an SDK key only sends.",
            ) from None

    def derive(self, purpose: str) -> bytes:
        """Another key of 32 bytes, always the same for a purpose; the key itself cannot be told from it."""
        return hmac.digest(self._key, purpose.encode(), "sha256")

    def seal(self, value: msgspec.Struct) -> str:
        """Encrypt, for rest or for somebody who is to bring it back."""
        return self._fernet.encrypt(msgspec.json.encode(value)).decode()

    def unseal(self, sealed: str, shape: type[T]) -> T:
        """Decrypt what `seal` encrypted.

        Raises:
            Invalid: another key sealed it, or it is of another shape.
        """
        try:
            return msgspec.json.decode(self._fernet.decrypt(sealed.encode()), type=shape)
        except (InvalidToken, msgspec.MsgspecError, UnicodeEncodeError):
            raise Invalid(
                "A stored secret cannot be decrypted with this key.",
                hint="Restore secret.key (or OUTHAUL_SECRET_KEY) as it was when the export was asked for.",
            ) from None

    def digest(self, text: str) -> str:
        """What is stored of a text to recognise it by: equal for equal texts, and no help in guessing them."""
        return hmac.new(self.derive("digest"), text.encode(), hashlib.sha256).hexdigest()
