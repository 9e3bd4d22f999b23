"""Blob containers of Azure Storage, and of what speaks like it, by shared access signature."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from obstore.store import AzureStore

from outhaul.address import FORMS, Address, pairs, parse
from outhaul.container.failures import Words
from outhaul.container.members import only
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import AzureSASToken, ClientConfig, RetryConfig

    from outhaul.wire import Destination

MAX_BLOCKS = 50_000
"""Blocks a blob can have (Azure Storage, "Scalability targets for Blob storage")."""
CLOCK_LEEWAY_S = 300
"""A token that ended less than this long ago is still tried: our clock may be the one that is wrong."""

_CONTAINER = re.compile(r"\$root|\$web|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_ACCOUNT = re.compile(r"[a-z0-9-]+")
# Parameters of an operation, not of the token; people copy them along from a listing.
_OPERATION_PARAMETERS = {"restype", "comp", "timeout"}
_WORDS = Words(
    noun="container",
    credential="token",
    ask="Ask again with a token that outlives the export and has Write permission.",
    misfit="Is it a blob container?",
    hints={
        "AuthenticationFailed": "The token expired, is not yet valid, or was not copied whole. ",
        "AuthorizationFailure": "The token expired, was not copied whole, or the account's firewall refuses us. ",
        "AuthorizationPermissionMismatch": "The token lacks Write permission. ",
        "AuthorizationProtocolMismatch": "The token is for https only. ",
        "AuthorizationResourceTypeMismatch": "The token is not for objects (srt). ",
        "AuthorizationServiceMismatch": "The token is not for the blob service (ss). ",
        "AuthorizationSourceIPMismatch": "The token is for other IP addresses than this server's. ",
    },
)


_READING = replace(
    _WORDS,
    ask="Retry with a token that has Read permission for the file and outlives the import.",
    misfit="Is it a file in a blob container?",
    hints={**_WORDS.hints, "AuthorizationPermissionMismatch": "The token lacks Read permission. "},
)


@dataclass(frozen=True)
class AzureStorage:
    """A container; the token is used as it is and shown to nobody."""

    address: Address
    endpoint: str
    account: str
    container: str
    folder: tuple[str, ...]
    token: tuple[tuple[str, str], ...] = field(repr=False)

    fixed = False
    words = _WORDS
    reading = _READING
    max_parts = MAX_BLOCKS

    @property
    def site(self) -> str:
        return self.address.site

    @property
    def place(self) -> tuple[object, ...]:
        return (self.endpoint, self.account, self.container, self.folder)

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(value for _, value in self.token)

    @property
    def ends(self) -> datetime | None:
        try:
            end = datetime.fromisoformat(dict(self.token).get("se", ""))
        except ValueError:
            return None
        return end if end.tzinfo else end.replace(tzinfo=UTC)

    @property
    def endless(self) -> bool:
        return False

    def complaint(self, now: float, *, reading: bool = False) -> str:
        """Why the token cannot work, from what it says itself; empty if it may.

        The parameters are those of "Create a service SAS" and "Create an account SAS" in Azure Storage's REST
        reference. A token that refers to a stored access policy (`si`) may say nothing of itself.
        """
        token = dict(self.token)
        if not token.get("sig"):
            return "is missing or has no signature (sig)"
        if "sp" in token and not ({"r"} if reading else {"w", "c"}) & set(token["sp"]):
            return f"does not allow {'reading' if reading else 'writing'} (sp)"
        if not reading and token.get("sr", "c") not in {"c", "d"}:
            return "is for a single blob (sr), not for the container"
        if "b" not in token.get("ss", "b") or "o" not in token.get("srt", "o"):
            return "is not for blobs (ss, srt)"
        expired = self.ends is not None and self.ends.timestamp() + CLOCK_LEEWAY_S < now
        return f"expired at {self.ends.isoformat()}" if expired and self.ends else ""

    def credential(self, until: datetime | None) -> AzureSASToken:
        return {"sas_token": list(self.token), "expires_at": until}

    def open(
        self, credential: Callable[[], AzureSASToken], client: ClientConfig, retry: RetryConfig
    ) -> AzureStore:
        return AzureStore(
            self.container,
            account_name=self.account,
            endpoint=self.endpoint,
            credential_provider=credential,
            # obstore would take these from the environment, where they belong to something else.
            use_emulator=False,
            skip_signature=False,
            client_options=client,
            retry_config=retry,
        )


def read(destination: Destination) -> AzureStorage:
    """Understand a destination: the account is named by the host, or else (emulators) first in the path.

    Raises:
        Invalid: it is not the URL of a container, or has members that do not belong to it.
    """
    address = parse(destination.url)
    only(destination, "the URL of a container", "sas_token")
    labels = address.host.split(".")
    by_host = labels[1:2] == ["blob"]
    bare = address.is_ip or len(labels) == 1 or address.has_port
    if bare and not by_host:
        account, segments = address.segments[:1], address.segments[1:]
        endpoint = "/".join((address.origin, *account))
    else:
        account, segments, endpoint = (labels[0],), address.segments, address.origin
    if address.crooked or not account or not _ACCOUNT.fullmatch(account[0]):
        raise Invalid("The destination is not the URL of a container.", hint=FORMS)
    if not segments or not _CONTAINER.fullmatch(segments[0]):
        raise Invalid(
            "The destination does not name a container.",
            hint=f"{FORMS} A container's name is 3 to 63 lower-case letters, digits and single dashes.",
        )
    token = _token(destination, address)
    return AzureStorage(replace(address, query=()), endpoint, account[0], segments[0], segments[1:], token)


def _token(destination: Destination, address: Address) -> tuple[tuple[str, str], ...]:
    """Find the token, in the URL or beside it."""
    token = tuple(pair for pair in address.query if pair[0] not in _OPERATION_PARAMETERS)
    if destination.sas_token is None:
        return token
    if token:
        raise Invalid(
            "destination.sasToken and the URL both hold a token.",
            hint="Give the token once, in either of them.",
        )
    try:
        return pairs(destination.sas_token.strip().removeprefix("?"))
    except ValueError:
        # What the parser says would quote the token.
        raise Invalid(
            "destination.sasToken is not a token that can be understood.", hint="Copy it whole: sv=…&sig=…"
        ) from None
