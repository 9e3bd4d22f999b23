"""A real server for tests: `outhaul serve` in a process of its own, on a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx2

STARTUP_S = 40


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """`outhaul serve` on `data`. Killed, terminated and started again at will; settings are `OUTHAUL_` variables."""

    def __init__(
        self, data: Path, *, tls: tuple[Path, Path] | None = None, host: str = "127.0.0.1", **settings: str
    ) -> None:
        self.data = data
        self.port = free_port()
        self._tls = tls
        self._host = host
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else host}:{self.port}"
        self.settings = settings
        self.log = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        settings = {f"OUTHAUL_{name.upper()}": value for name, value in self.settings.items()}
        return {**os.environ, **settings, "OUTHAUL_DATA": str(self.data)}

    def start(self) -> Self:
        command = [sys.executable, "-m", "outhaul", "serve", "--data", str(self.data), "--host", self._host]
        command += ["--port", str(self.port)]
        if self._tls:
            command += ["--tls-cert", str(self._tls[0]), "--tls-key", str(self._tls[1])]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + STARTUP_S
        while True:
            try:
                if httpx2.get(f"{self.url}/healthz", verify=False, timeout=2).status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    @property
    def running(self) -> bool:
        return self._process is not None

    def stop(self) -> int:
        """SIGTERM, as an operator would; the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        code = self._process.wait(60)
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL to everything at once, as a crash would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def orphan(self) -> None:
        """SIGKILL to the parent alone: front and worker notice by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def children(self) -> list[int]:
        """Process ids of the front and the worker."""
        assert self._process is not None
        own = self._process.pid
        found = map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split())
        return [pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    def cli(self, *arguments: str) -> Any:
        """What `outhaul ARGUMENTS --json` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "outhaul", *arguments, "--data", str(self.data), "--json"],
            env=self._environment(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)
