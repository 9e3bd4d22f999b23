"""A proxy that passes requests on but keeps the first answers to itself, so that an SDK sends again."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import httpx2


class Forgetful:
    """Listens at `url`; the first `losses` requests reach `target`, but are answered with 500."""

    def __init__(self, target: str, losses: int = 1) -> None:
        self.target = target
        self.losses = losses
        self.bodies: list[bytes] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {
                    key: value
                    for key, value in self.headers.items()
                    if key.lower() not in {"host", "connection"}
                }
                answer = httpx2.post(proxy.target + self.path, content=body, headers=headers)
                proxy.bodies.append(body)
                lost = len(proxy.bodies) <= proxy.losses
                content = b"" if lost else answer.content
                self.send_response(500 if lost else answer.status_code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Not on the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
