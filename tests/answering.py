"""A real HTTP server whose answers a test decides on, request by request, and that keeps what it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    """What is sent back. `body` in pieces is sent as it comes; `length` may promise more than there is."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = {}  # noqa: RUF012  never changed
    length: int | None = None


LOST = None
"""Instead of an answer: the connection is closed."""


def problem(status: int, code: str, **headers: str) -> Answer:
    body = {
        "type": f"about:{code}",
        "title": "t",
        "status": status,
        "detail": f"It is {code}.",
        "code": code,
        "hint": "Do something.",
        "requestId": "request-7",
    }
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class Site:
    """`answer` is a function of the request, or a list: one answer for each request, the last for ever."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self._closed = False
        self.answer: Callable[[Request], Answer | None] | list[Answer | None] = [Answer(404)]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(
                    self.command, unquote(parts.path), dict(parse_qsl(parts.query)), dict(self.headers), body
                )
                outer.requests.append(request)
                answer = outer._next(request)
                if answer is None:
                    self.close_connection = True
                else:
                    self.send(answer)

            do_GET = do_POST = do_PUT = do_HEAD = handle_one  # noqa: N815  names of the base class

            def send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if not isinstance(answer.body, bytes | dict | list):
                    self.stream(answer.body)
                    return
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_header("Content-Length", str(len(body) if answer.length is None else answer.length))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = answer.length is not None

            def stream(self, pieces: Iterable[bytes]) -> None:
                self.send_header("Connection", "close")
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that has gone is no news."""

        self._http = Quiet(("127.0.0.1", port), Handler)
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def _next(self, request: Request) -> Answer | None:
        if self._closed:
            return LOST
        if isinstance(self.answer, list):
            return self.answer.pop(0) if len(self.answer) > 1 else self.answer[0]
        return self.answer(request)

    def close(self) -> None:
        self._closed = True
        self._http.shutdown()
        self._http.server_close()
