"""What the tests of deliveries share: destinations, name resolution, and a server that repeats what it was sent."""

from __future__ import annotations

import re
import threading
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

import pytest

from outhaul.container import Destinations
from outhaul.wire import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    from outhaul.errors import OuthaulError

MIB = 1024 * 1024
NOW = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
SIGNATURE = "c2VjcmV0+c2VjcmV0/c2VjcmV0c2VjcmV0c2VjcmV0c2U="
TOKEN = f"sv=2021-08-06&sr=c&sp=wl&se=2030-01-02T00%3A00%3A00Z&sig={quote(SIGNATURE, safe='')}"
NAMES = {
    "acct.blob.core.windows.net": ["20.60.1.2"],
    "acct.blob.core.chinacloudapi.cn": ["40.73.1.2"],
    "acct.z17.blob.storage.azure.net": ["20.60.1.3"],
    "v6.blob.core.windows.net": ["2603:1030::1"],
    "nat64.blob.core.windows.net": ["64:ff9b::143c:102"],
    "files.example.com": ["93.184.215.14"],
    "inner.example.com": ["10.1.2.3"],
    "half.example.com": ["93.184.215.14", "192.168.1.1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "minio.inner": ["10.0.0.9"],
    "allowed": ["93.184.215.14"],
}


def named(host: str, _port: int) -> list[str]:
    return NAMES.get(host, [])


def destinations(allowed: str = "") -> Destinations:
    return Destinations(allowed, resolve=named, now=lambda: NOW)


def at(url: str) -> Destination:
    return Destination(url=url)


def everything_told(error: BaseException) -> str:
    """What a log, a page or a stored task could show of an error: its words, its causes, its traceback."""
    told = [str(error), repr(error), *map(str, error.args), str(getattr(error, "hint", ""))]
    told.append("".join(traceback.format_exception(error)))
    told += [everything_told(other) for other in (error.__cause__, error.__context__) if other]
    return "\n".join(told)


def secrets_of(destination: Destination) -> list[str]:
    """Everything in a destination that nobody may be shown."""
    found = re.findall(r"sig=([^&]+)", f"{destination.url}&{destination.sas_token or ''}")
    found += [destination.access_key_id, destination.secret_access_key, destination.session_token]
    account = destination.service_account or {}
    found += [account.get(name) for name in ("client_email", "private_key_id", "private_key")]
    return [secret for secret in found if secret]


@contextmanager
def failing_quietly(
    expected: type[OuthaulError], destination: str | Destination, *, exactly: bool = True
) -> Iterator[pytest.ExceptionInfo[OuthaulError]]:
    """Expect exactly this error, and that nothing about it shows a secret of the destination."""
    with pytest.raises(expected) as caught:
        yield caught
    assert type(caught.value) is expected or not exactly
    told = everything_told(caught.value)
    given = at(destination) if isinstance(destination, str) else destination
    assert [secret for secret in secrets_of(given) if secret in told or unquote(secret) in told] == []
    assert caught.value.message
    assert caught.value.hint


class Asked(NamedTuple):
    """A request as it came."""

    command: str
    path: str
    headers: Message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answering

    def _answer(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        # A copy: the handler goes on to serve what comes next on its connection.
        request = Asked(self.command, self.path, self.headers)
        self.server.seen.append(request)
        status, headers, body = self.server.answer(request)
        with suppress(ConnectionError):  # of several parts sent at once, the first refused ends them all
            self.send_response(status, f"Because of {self.path}")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_CONNECT = do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  named by the base class

    def log_message(self, *_arguments: object) -> None:
        pass


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


class Answering(ThreadingHTTPServer):
    """A server that answers every request as told, for answers that no emulator gives; `seen` is what was asked."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.seen: list[Asked] = []
        self.origin = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def answering(answer: Callable[[Asked], Answer]) -> Iterator[Answering]:
    with Answering(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
