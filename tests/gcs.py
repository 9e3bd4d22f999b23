"""A server for the requests that Google Cloud Storage's XML API shares with S3, and a service account.

No emulator of Google's storage takes uploads in parts as its XML API does, so this is the S3 server, which does; it
does not look at who asks. What Google would look at, the signed token, is verified by itself.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from outhaul.wire import Destination
from s3 import S3


class Gcs(S3):
    def __init__(self) -> None:
        super().__init__(signed=False)

    def made(self, name: str) -> Destination:
        """The destination of the bucket `name`, made if missing."""
        self.admin.create_bucket(Bucket=name)
        return Destination(url=f"gs://{name}", endpoint=self.url, service_account=account())


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def account(**members: Any) -> dict[str, Any]:
    """The JSON of a service account's key, as Google makes it."""
    pem = _key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "0123456789abcdef0123456789abcdef01234567",
        "private_key": pem.decode(),
        "client_email": "exports@project.iam.gserviceaccount.com",
        "client_id": "123456789012345678901",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        **members,
    }


def read_bearer(header: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and claims of a token that the account's key has signed."""
    scheme, token = header.split(" ")
    signed, _, signature = token.rpartition(".")
    assert scheme == "Bearer"
    _key().public_key().verify(_decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    head, claims = (json.loads(_decode(part)) for part in signed.split("."))
    return head, claims


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
