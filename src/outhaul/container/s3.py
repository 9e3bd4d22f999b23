"""Buckets of Amazon S3, and of services that speak like it, by access key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from obstore.store import S3Store

from outhaul.address import Address, parse, parse_bucket
from outhaul.container.failures import Words
from outhaul.container.members import only, read_endpoint, required
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from obstore.store import ClientConfig, RetryConfig, S3Credential

    from outhaul.wire import Destination

MAX_PARTS = 10_000
"""Parts an object can have (Amazon S3, "Amazon S3 multipart upload limits"); also Google Cloud Storage's number."""

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,3}-\d{1,2}")
_OTHER_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_ASK = "Ask again with keys that may put objects there (s3:PutObject, s3:AbortMultipartUpload)."
_WORDS = Words(
    noun="bucket",
    credential="keys",
    ask=_ASK,
    misfit="Does it speak S3? Check destination.endpoint and destination.region.",
    hints={
        "AccessDenied": "The keys may not put objects there, or the bucket's policy refuses them. ",
        "AuthorizationHeaderMalformed": "The region or the access key's id is not the right one.",
        "EntityTooLarge": "The file is larger than the service takes; ask for an export in parts.",
        "ExpiredToken": "The temporary keys expired. ",
        "InvalidAccessKeyId": "There is no such access key id. ",
        "InvalidToken": "The session token was not copied whole, or belongs to other keys. ",
        "PermanentRedirect": "The bucket is in another region than destination.region says.",
        "RequestTimeTooSkewed": "This server's clock is wrong, or the service's is. ",
        "SignatureDoesNotMatch": "The secret access key is not that of the access key id. ",
        "TokenRefreshRequired": "The temporary keys expired. ",
    },
    denials=frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}),
)

_READING = replace(
    _WORDS,
    ask="Retry with keys that may read the object (s3:GetObject).",
    hints={
        **_WORDS.hints,
        "AccessDenied": "The keys may not read the object, or there is none of that name. ",
    },
)


@dataclass(frozen=True)
class S3Storage:
    """A bucket; the keys sign requests and are sent to nobody."""

    address: Address
    fixed: bool
    """The endpoint is Amazon's own, not one that was given."""
    region: str
    bucket: str
    folder: tuple[str, ...]
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)

    words = _WORDS
    reading = _READING
    max_parts = MAX_PARTS
    ends = None

    @property
    def site(self) -> str:
        return self.address.site

    @property
    def place(self) -> tuple[object, ...]:
        return (self.address, self.region, self.bucket, self.folder)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.access_key_id, self.secret_access_key, self.session_token or "")

    @property
    def endless(self) -> bool:
        return self.session_token is None

    def complaint(self, now: float, *, reading: bool = False) -> str:  # noqa: ARG002  keys say nothing of themselves
        return ""

    def credential(self, until: datetime | None) -> S3Credential:
        return {
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "token": self.session_token,
            "expires_at": until,
        }

    def open(
        self, credential: Callable[[], S3Credential], client: ClientConfig, retry: RetryConfig
    ) -> S3Store:
        return S3Store(
            self.bucket,
            region=self.region,
            endpoint=self.address.origin,
            credential_provider=credential,
            # obstore would take these from the environment, where they belong to something else.
            aws_endpoint_url_s3=self.address.origin,
            virtual_hosted_style_request=False,
            s3_express=False,
            skip_signature=False,
            unsigned_payload=False,
            request_payer=False,
            client_options=client,
            retry_config=retry,
        )


def read(destination: Destination) -> S3Storage:
    """Understand a destination.

    Raises:
        Invalid: the URL names no bucket, or a member is missing, malformed or does not belong to it.
    """
    bucket = parse_bucket(destination.url)
    names = ("access_key_id", "secret_access_key", "session_token", "region", "endpoint")
    only(destination, "an s3:// URL", *names)
    why = "An s3:// URL needs accessKeyId and secretAccessKey; this server's own are never used."
    address, region = _where(destination)
    session = destination.session_token
    return S3Storage(
        address=replace(address, segments=(bucket.name, *bucket.folder)),
        fixed=destination.endpoint is None,
        region=region,
        bucket=bucket.name,
        folder=bucket.folder,
        access_key_id=required(destination, "access_key_id", why),
        secret_access_key=required(destination, "secret_access_key", why),
        session_token=None if session is None else required(destination, "session_token", why),
    )


def _where(destination: Destination) -> tuple[Address, str]:
    """Find the service's address and the region that requests are signed for."""
    region = destination.region
    if destination.endpoint is not None:
        region = "us-east-1" if region is None else region
        if not _OTHER_REGION.fullmatch(region):
            raise Invalid("destination.region is not a region's name.", hint="Leave it out if there is none.")
        return read_endpoint(destination.endpoint), region
    # It becomes part of a host name.
    if region is None or not _REGION.fullmatch(region):
        problem = "is missing" if region is None else "is not a region of Amazon S3"
        raise Invalid(f"destination.region {problem}.", hint="Give the bucket's region, such as eu-west-1.")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return parse(f"https://s3.{region}.{domain}"), region
