"""Whom SDKs connect to: a recording of this process, and of Node processes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

HERE = {"127.0.0.1", "localhost"}
_recordings: list[Reached] = []


class Reached:
    """While a context: `hosts` are all that this process looked up or connected to."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()

    def __enter__(self) -> Self:
        if not _hooked:
            # A hook stays for as long as the process does.
            sys.addaudithook(_hear)
            _hooked.append(True)
        _recordings.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _recordings.remove(self)


_hooked: list[bool] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recordings:
        return
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0]
    else:
        return
    if host is not None:
        for recording in _recordings:
            recording.hosts.add(host if isinstance(host, str) else bytes(host).decode())


def node_options(file: Path, node: Path) -> dict[str, str]:
    """What to add to the environment of a Node process, so that `node_hosts(file)` tells whom it reached."""
    return {"NODE_OPTIONS": f"--require {node / 'hosts.cjs'}", "HOSTS": str(file)}


def node_hosts(file: Path) -> set[str]:
    lines = file.read_text().splitlines() if file.exists() else []
    return {json.loads(line)[0] for line in lines}
