"""What `outhaul doctor` looks at from the outside: the profile, the server, its certificate, the token."""

from __future__ import annotations

import email.utils
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import httpx2

from outhaul import instants, profiles
from outhaul.cli.findings import Check, Finding, look
from outhaul.cli.output import duration
from outhaul.client import Client, Retries
from outhaul.errors import OuthaulError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.profiles import Profile

_TIMEOUT_S = 10.0
_CLOCKS_S = 30.0
"""Clocks further apart than this can make a container's token invalid that was just made."""
_SOON_S = 14 * 86_400.0
_PRIVATE = 0o077
_LOCAL = ("localhost", "127.0.0.1", "::1")


def check_server(name: str | None, url: str) -> Iterator[Check]:
    """Look at a profile and at the server it leads to; what comes after a failure is not looked at."""
    yield look("config file", _config_file)
    try:
        profile = profiles.load(name, url)
    except OuthaulError as error:
        yield Check("profile", "fail", error.message, error.hint)
        return
    yield look("profile", lambda: _profile(profile))
    if not profile.url:
        return
    parts = urlsplit(profile.url)
    certificate = look("transport", lambda: _transport(parts))
    yield certificate
    if certificate.result == "fail":
        return
    answers: list[httpx2.Response] = []
    reached = look("server", lambda: _reach(profile.url, answers))
    yield reached
    if reached.result == "fail":
        return
    yield look("clock", lambda: _clock(answers[0]))
    if profile.token:
        yield look("token", lambda: _token(profile))


def _config_file() -> Finding:
    path = profiles.path()
    if not path.exists():
        return Finding("ok", f"none, at {path}")
    mode = path.stat().st_mode & 0o777
    if mode & _PRIVATE:
        return Finding("fail", f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
    return Finding("ok", f"{path}, for its owner only; profiles: {', '.join(profiles.names()) or 'none'}")


def _profile(profile: Profile) -> Finding:
    if not profile.url:
        return Finding("warn", "no server is known", "outhaul config set https://outhaul.example.com")
    if not profile.token:
        return Finding(
            "warn",
            f"{profile.name}: {profile.url}, without a token",
            f"outhaul config set {profile.url} --profile {profile.name}",
        )
    return Finding("ok", f"{profile.name}: {profile.url}")


def _transport(parts: SplitResult) -> Finding:
    host = parts.hostname or ""
    if parts.scheme == "http":
        if host in _LOCAL:
            return Finding("ok", "http, on this machine")
        return Finding(
            "warn",
            f"http: whoever is between here and {host} sees the token",
            "Serve with --tls-cert and --tls-key, or behind a proxy that speaks https.",
        )
    context = httpx2.create_ssl_context()
    try:
        with (
            socket.create_connection((host, parts.port or 443), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            told = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return Finding(
            "fail",
            f"the certificate is not believed: {error.verify_message}",
            "Renew it, or name its issuer's certificate in SSL_CERT_FILE.",
        )
    except OSError as error:
        return Finding("fail", f"no connection: {error}", "Check the URL and the network.")
    left = ssl.cert_time_to_seconds(str(told["notAfter"])) - time.time()
    detail = f"https; the certificate ends in {duration(left)}"
    return Finding("warn", detail, "Renew the certificate.") if left < _SOON_S else Finding("ok", detail)


def _reach(url: str, answers: list[httpx2.Response]) -> Finding:
    started = time.monotonic()
    cure = "Check the URL and the network, and that the server runs."
    try:
        response = httpx2.get(f"{url}/healthz", timeout=_TIMEOUT_S)
    except httpx2.TransportError as error:
        return Finding("fail", f"{url} does not answer: {error}", cure)
    took = round((time.monotonic() - started) * 1000)
    answers.append(response)
    if not response.is_success:
        return Finding("fail", f"{url}/healthz answers {response.status_code}", cure)
    told = _told_version(url)
    return Finding("ok", f"answers in {took} ms{f', version {told}' if told else ''}")


def _told_version(url: str) -> str:
    """The server's version, where its description of itself tells one."""
    try:
        return str(httpx2.get(f"{url}/api/v1/openapi.json", timeout=_TIMEOUT_S).json()["info"]["version"])
    except (httpx2.TransportError, ValueError, KeyError, TypeError):
        return ""


def _clock(response: httpx2.Response) -> Finding:
    told = response.headers.get("Date")
    if told is None:
        return Finding("ok", "the server does not tell its time")
    apart = abs(email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    if apart > _CLOCKS_S:
        return Finding("warn", f"{duration(apart)} apart from the server's", "Set both by NTP.")
    return Finding("ok", "as the server's")


def _token(profile: Profile) -> Finding:
    with Client(profile.url, profile.token, retries=Retries(patience_s=0)) as client:
        caller = client.me()
    where = f"in {caller.app}" if caller.app else "in every app"
    detail = f"{caller.actor}, {where}, may: {' '.join(caller.scopes) or 'nothing'}"
    if caller.expires_at is None:
        return Finding("ok", detail)
    left = instants.read("expiresAt", caller.expires_at) / 1000 - time.time()
    detail = f"{detail}; ends in {duration(left)}"
    if left < _SOON_S:
        return Finding("warn", detail, "outhaul tokens create, with another name, on the server")
    return Finding("ok", detail)
