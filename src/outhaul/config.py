"""Every setting, once: name, type, default and what it means. The only reader of the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from outhaul.wire import TimeFormat

MIB = 1024 * 1024


class Setting(NamedTuple):
    name: str
    """The attribute of `Config`; its environment variable is `OUTHAUL_` and the name in capitals."""
    type: type
    default: str | int
    help: str


SETTINGS = (
    Setting(
        "public_url",
        str,
        "",
        "The base URL under which clients reach the server, for `nextLink` and `Location`. "
        "Empty: taken from the request's own Host.",
    ),
    Setting(
        "destinations",
        str,
        "",
        "Comma-separated URL prefixes that exports may write to, and imports read from, besides public https, "
        "for example `http://127.0.0.1:10000/,file:///srv/exports/`.",
    ),
    Setting(
        "secret_key",
        str,
        "",
        "A Fernet key (32 bytes, URL-safe base64) that signs access tokens and encrypts destinations, sources "
        "and who is to be erased, at rest. Empty: made on first use and kept in the data folder as `secret.key`.",
    ),
    Setting(
        "memory_limit",
        int,
        384 * MIB,
        "Bytes that the engines may hold for all exports together; the rest spills to disk.",
    ),
    Setting(
        "land_memory_limit",
        int,
        512 * MIB,
        "Bytes that the engine may hold while landing; the rest spills to disk.",
    ),
    Setting(
        "history_memory_limit",
        int,
        256 * MIB,
        "Bytes that the engine may hold while histories of people are streamed; the rest spills to disk.",
    ),
    Setting("threads", int, 0, "Threads an engine may use; 0 means one per core."),
    Setting(
        "land_interval_ms",
        int,
        5000,
        "Milliseconds between handing the journal over for landing under steady traffic; after a quiet time it is "
        "handed over at once, and for an export always.",
    ),
    Setting(
        "land_batch_bytes", int, 128 * MIB, "Journal bytes landed in one go at most (one segment at least)."
    ),
    Setting("segment_bytes", int, 32 * MIB, "A journal segment is closed when it has grown to this size."),
    Setting("max_body_bytes", int, 5 * MIB, "The largest request body taken from a device, as sent."),
    Setting(
        "max_inflated_bytes", int, 20 * MIB, "The largest request body taken from a device, once inflated."
    ),
    Setting(
        "max_pending_bytes",
        int,
        256 * MIB,
        "Bytes that may wait for the disk before devices are told to come back later.",
    ),
    Setting(
        "max_journal_bytes",
        int,
        64 * 1024 * MIB,
        "Bytes of journal not yet landed before devices are told to come back later.",
    ),
    Setting("slice_rows", int, 100_000, "Rows of an export sorted and written at a time."),
    Setting(
        "mark_bytes",
        int,
        256 * MIB,
        "Bytes of an export's file after which it is forced to disk, so that a restart goes on from there.",
    ),
    Setting("export_concurrency", int, 4, "Exports that run at the same time, all apps together."),
    Setting("export_concurrency_per_app", int, 1, "Exports of one app that run at the same time."),
    Setting("delivery_attempts", int, 4, "How often delivery to a container that does not answer is tried."),
    Setting(
        "delivery_timeout_s",
        int,
        30,
        "Seconds after which a single request to a container counts as unanswered.",
    ),
    Setting("token_lifetime_s", int, 3600, "Seconds an access token is valid."),
    Setting("session_idle_s", int, 10, "Seconds after the end of its last activity that a session ends."),
    Setting("session_timeout_s", int, 180, "Seconds of silence after which a session ends."),
    Setting(
        "compact_files",
        int,
        32,
        "Small files of one table and day that are merged into one once there are so many.",
    ),
    Setting(
        "keep_versions_hours",
        int,
        168,
        "Hours for which files stay that were merged away or removed by retention; what an export has pinned stays as long "
        "as it takes.",
    ),
    Setting(
        "keep_failed_hours",
        int,
        72,
        "Hours for which an export that failed or was cancelled can be taken up again where it stopped.",
    ),
    Setting(
        "download_hours",
        int,
        72,
        "Hours for which the files of exports without a destination are kept to be fetched.",
    ),
    Setting("download_link_s", int, 900, "Seconds a link to such a file is valid."),
    Setting(
        "rate_per_minute",
        int,
        600,
        "Requests a minute that one credential or token may make of `/api/v1`; 0 for no limit.",
    ),
    Setting(
        "exports_unfinished",
        int,
        100,
        "Exports of one credential or token that may be unfinished; 0 for no limit.",
    ),
    Setting(
        "exports_per_day",
        int,
        1000,
        "Exports that one credential or token may ask for in 24 hours; 0 for no limit.",
    ),
    Setting(
        "imports_unfinished",
        int,
        100,
        "Imports of one credential or token that may be unfinished; 0 for no limit.",
    ),
    Setting(
        "imports_per_day",
        int,
        1000,
        "Imports that one credential or token may ask for in 24 hours; 0 for no limit.",
    ),
    Setting(
        "oidc_issuer",
        str,
        "",
        "Issuer of an OpenID provider whose access tokens `/api/v1` takes, such as "
        "`https://login.microsoftonline.com/TENANT/v2.0`. Empty: none.",
    ),
    Setting("oidc_audience", str, "", "The audience that such a token must be for."),
    Setting(
        "oidc_jwks_url",
        str,
        "",
        "Where that provider's signing keys are. Empty: as its `/.well-known/openid-configuration` says.",
    ),
    Setting("oidc_roles_claim", str, "roles", "The claim that holds a bearer's roles, or its only role."),
    Setting(
        "oidc_roles",
        str,
        "",
        "Comma-separated pairs of a value of that claim and a role here, such as "
        "`Outhaul.Admin=owner,Outhaul.Export=contributor`. A value without a pair gives nothing.",
    ),
    Setting("dedupe_days", int, 7, "Days for which a record sent again is recognised."),
    Setting(
        "time_format",
        str,
        "ms",
        "How exported files show times: `ms` since 1970 (as the old API does) or `rfc3339`.",
    ),
)


class Config:
    """The settings in force, one attribute each; made from an environment, never changed after.

    Raises:
        Invalid: a variable does not parse, naming it and the value expected.
    """

    public_url: str
    destinations: str
    secret_key: str
    memory_limit: int
    land_memory_limit: int
    history_memory_limit: int
    threads: int
    land_interval_ms: int
    land_batch_bytes: int
    segment_bytes: int
    max_body_bytes: int
    max_inflated_bytes: int
    max_pending_bytes: int
    max_journal_bytes: int
    slice_rows: int
    mark_bytes: int
    export_concurrency: int
    export_concurrency_per_app: int
    delivery_attempts: int
    delivery_timeout_s: int
    token_lifetime_s: int
    session_idle_s: int
    session_timeout_s: int
    compact_files: int
    keep_versions_hours: int
    keep_failed_hours: int
    download_hours: int
    download_link_s: int
    rate_per_minute: int
    exports_unfinished: int
    exports_per_day: int
    imports_unfinished: int
    imports_per_day: int
    oidc_issuer: str
    oidc_audience: str
    oidc_jwks_url: str
    oidc_roles_claim: str
    oidc_roles: str
    dedupe_days: int
    time_format: TimeFormat

    def __init__(self, environment: Mapping[str, str]) -> None:
        for setting in SETTINGS:
            variable = f"OUTHAUL_{setting.name.upper()}"
            text = environment.get(variable, "")
            setattr(self, setting.name, _parse(setting, variable, text) if text else setting.default)
        if self.time_format not in {"ms", "rfc3339"}:
            raise Invalid(f"OUTHAUL_TIME_FORMAT is {self.time_format!r}.", hint="Use ms or rfc3339.")

    def engine(self, memory_limit: int, spill: Path) -> dict[str, str | bool | int | float | list[str]]:
        """How an engine is set up: bytes it may hold, and the folder that the rest spills into."""
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_limit}B",
            "temp_directory": str(spill),
            # Files are read once; keeping them would only take memory from what needs it.
            "enable_external_file_cache": False,
        }
        if self.threads:
            settings["threads"] = self.threads
        return settings


def _parse(setting: Setting, variable: str, text: str) -> str | int:
    if setting.type is str:
        return text
    try:
        number = int(text)
    except ValueError:
        raise Invalid(f"{variable} is {text!r}.", hint="It takes a whole number.") from None
    if number < 0:
        raise Invalid(f"{variable} is {text!r}.", hint="It takes a number that is not negative.")
    return number


def from_environment() -> Config:
    """The settings in force in this process."""
    return Config(os.environ)


def variable(name: str) -> str:
    """An environment variable that is no setting, such as a key that must not be on a command line, or ""."""
    return os.environ.get(name, "")
