"""A proxy between a device and the server that is not always kind: busy for a while, or losing answers."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, Self

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable


class Seen(NamedTuple):
    """A request of a device, and what it was answered; 0 if it was not."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int


class Between:
    """Listens at `url` and passes requests on to `target`, which may be down: then it hangs up on the device.

    While `busy` is set, requests that send are answered 503, as the server itself does when its disk is behind, but with a
    `Retry-After` of a second. The next `losses` requests that send reach the server, but their answers are lost.
    `seen` is all of them.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.busy = False
        self.losses = 0
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, happened: Callable[[list[Seen]], object], timeout_s: float = 30) -> None:
        """Wait until something can be seen."""
        deadline = time.monotonic() + timeout_s
        while not happened(self.seen):
            assert time.monotonic() < deadline, [(seen.method, seen.path, seen.status) for seen in self.seen]
            time.sleep(0.02)

    def loses(self) -> bool:
        """Whether the answer to a request that sends is to be lost."""
        with self._lock:
            self.losses -= 1
            return self.losses >= 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Between) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def take(self) -> None:
        body = self._body()
        sends = self.command == "POST"
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in {"connection", "content-length", "transfer-encoding"}
        }
        if sends and self.server.proxy.busy:
            self._note(body, 503)
            self._reply(503, b"", {"Retry-After": "1"} | self._cors())
            return
        try:
            answer = httpx2.request(
                self.command, self.server.proxy.target + self.path, content=body, headers=headers
            )
        except httpx2.TransportError:
            answer = None
        if answer is None or (sends and self.server.proxy.loses()):
            self._note(body, 0)
            self.close_connection = True
            return
        self._note(body, answer.status_code)
        dropped = {"content-length", "connection", "transfer-encoding", "content-encoding"}
        kept = {name: value for name, value in answer.headers.items() if name not in dropped}
        self._reply(answer.status_code, answer.content, kept)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = take  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _cors(self) -> dict[str, str]:
        origin = self.headers.get("Origin")
        allowed = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "retry-after"}
        return allowed if origin else {}

    def _note(self, body: bytes, status: int) -> None:
        self.server.proxy.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body, status))

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Not on the test's output."""
