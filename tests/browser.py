"""A real browser for tests: headless Chromium on a web site of its own, with all that it tries to reach recorded."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
import queue
import shutil
import signal
import subprocess
import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PACKAGES = Path(__file__).parent / "node" / "node_modules"
LOCAL = {"localhost", "127.0.0.1"}
OWN = {"accounts.google.com", "clients2.google.com", "update.googleapis.com"}
"""What Chromium asks for by itself, whatever it is told; no SDK here is of those."""
# Nothing is to be asked for but by the page: no updates, no lists of bad sites, no search engine's start page.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=OptimizationHints,MediaRouter,Translate",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--metrics-recording-only",
    "--password-store=basic",
    # By default what is on this machine is not asked for by way of the proxy.
    "--proxy-bypass-list=<-loopback>",
)
PAGE = """<!doctype html>
<html lang="en"><head><title>Shop</title><script>
const ownFetch = window.fetch.bind(window), said = [];
for (const level of ['error', 'warn']) {
  const own = console[level];
  console[level] = (...words) => { said.push(words.map(String).join(' ')); own.apply(console, words); };
}
window.addEventListener('error', (event) => said.push(String(event.message)));
const post = (path, value) =>
  ownFetch(path, { method: 'POST', body: JSON.stringify(value ?? null) }).then((answer) => answer.json());
</script>%(libraries)s</head><body><h1>Shop</h1><script type="module">
const step = (name, value) => post('/step/%(number)d/' + name, value);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let told;
try {
  told = { result: await (async (given) => { %(script)s })(%(given)s) };
} catch (error) {
  told = { error: String((error && error.stack) || error) };
}
location.replace(await post('/told/%(number)d', { ...told, said }));
</script></body></html>
"""


class Passed(NamedTuple):
    """A request of the browser to something on this machine; `status` is 0 if there was no answer."""

    method: str
    url: str
    status: int
    sent: bytes


class Browser:
    """Chromium with a fresh profile in `folder`, for as long as it is a context.

    `hosts` are all that its pages tried to reach, as `host:port`, besides its own site; only those on this machine are reached.
    `passed` are the requests to them. Both grow while the browser runs.
    """

    def __init__(self, folder: Path, *, user_agent: str = "") -> None:
        self.hosts: list[str] = []
        self.passed: list[Passed] = []
        self._pages: dict[str, str] = {}
        self._steps: Mapping[str, Callable[[Any], Any]] = {}
        self._told: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
        self._next: queue.Queue[str] = queue.Queue()
        self._number = 0
        self._folder = folder
        self._user_agent = user_agent
        self._server = _Server(self)
        self.site = f"localhost:{self._server.server_port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._next.put("about:blank")
        self._server.shutdown()
        self._server.server_close()

    def run(
        self,
        script: str,
        *libraries: str,
        given: Any = None,
        steps: Mapping[str, Callable[[Any], Any]] | None = None,
        timeout_s: float = 60,
    ) -> Any:
        """Open a page that loads libraries, then runs the script; what the script returns.

        The page of the run before is left for it, as a visitor would, and its storage stays. `libraries` are files
        of npm packages: `posthog-js/dist/array.full.js`. `script` is the body of an async function of `given`; in it,
        `await sleep(ms)` waits, and `await step(name, value)` has `steps[name](value)` called here and gives what it returns.
        """
        self._number += 1
        self._steps = steps or {}
        path = f"/page/{self._number}?utm_campaign=spring"
        tags = "".join(f'<script src="/node_modules/{library}"></script>' for library in libraries)
        content = {"number": self._number, "libraries": tags, "script": script, "given": json.dumps(given)}
        self._pages[path] = PAGE % content
        if self._process is None:
            self._open(f"http://{self.site}{path}")
        else:
            self._next.put(path)
        try:
            number, told = self._told.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(
                f"the page was not done in {timeout_s} s; tried: {self.hosts}\n{self._log()}"
            ) from None
        assert number == self._number
        assert "error" not in told, f"{told['error']}\n{told['said']}"
        return told.get("result")

    def leave(self) -> None:
        """Leave the page that ran last, so that it sends what it keeps for that moment."""
        self.run("")

    def _log(self) -> str:
        return (self._folder / "browser.log").read_text(errors="replace")[-3000:]

    def _open(self, url: str) -> None:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        assert program, "there is no browser: run `make setup`"
        command = [program, *FLAGS, f"--user-data-dir={self._folder / 'profile'}"]
        command += [f"--proxy-server=http://127.0.0.1:{self._server.server_port}"]
        command += [f"--user-agent={self._user_agent}"] if self._user_agent else []
        with (self._folder / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, url], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    # What the handler asks

    def page(self, path: str) -> tuple[bytes, str] | None:
        """A file of the site, and its type."""
        if path in self._pages:
            return self._pages[path].encode(), "text/html; charset=utf-8"
        name = urlsplit(path).path
        if name.startswith("/node_modules/"):
            file = PACKAGES / name.removeprefix("/node_modules/")
            kind = (
                "text/javascript" if file.suffix in {".js", ".mjs", ".cjs"} else mimetypes.guess_type(file)[0]
            )
            return (file.read_bytes(), kind or "text/plain") if file.is_file() else None
        return None

    def answer(self, path: str, value: Any) -> Any:
        """What the page's own requests get: the answer of a step, or where to go when its script is done."""
        _, verb, number, *rest = path.split("/")
        if verb == "step":
            return self._steps[rest[0]](value)
        self._told.put((int(number), value))
        return self._next.get()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, browser: Browser) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.browser = browser

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    """The browser's proxy, and on the way its site."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def take(self) -> None:
        target = urlsplit(self.path)
        connects = self.command == "CONNECT"
        host = self.path if connects else target.netloc
        if not connects and host in {self.server.browser.site, ""}:
            self._serve()
            return
        if host.partition(":")[0] not in OWN:
            self.server.browser.hosts.append(host)
        if not connects and target.hostname in LOCAL:
            self._pass(target)
        else:
            self._reply(502, b"", "text/plain")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_CONNECT = take  # noqa: N815

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _serve(self) -> None:
        path = self.path.removeprefix(f"http://{self.server.browser.site}")
        if self.command == "POST":
            value = self.server.browser.answer(path, json.loads(self._body()))
            self._reply(200, json.dumps(value).encode(), "application/json")
        elif (found := self.server.browser.page(path)) is not None:
            self._reply(200, *found)
        else:
            self._reply(404, b"", "text/plain")

    def _pass(self, target: Any) -> None:
        body = self._body()
        dropped = {"proxy-connection", "connection", "host"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection = HTTPConnection(target.hostname, target.port or 80, timeout=30)
        path = f"{target.path or '/'}?{target.query}" if target.query else target.path or "/"
        try:
            connection.request(self.command, path, body, {**headers, "Host": target.netloc})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            # As if nobody were there: the browser is not to take the proxy's word for the server's.
            self.server.browser.passed.append(Passed(self.command, self.path, 0, body))
            self.close_connection = True
            return
        finally:
            connection.close()
        self.server.browser.passed.append(Passed(self.command, self.path, answer.status, body))
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        self._end(content)

    def _reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self._end(content)

    def _end(self, content: bytes) -> None:
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(content)

    def handle(self) -> None:
        # A page that is left hangs up in the middle of whatever it was asking for.
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *args: object) -> None:
        """Not on the test's output."""
