"""Commands run inside the test's process, as their users see them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outhaul import cli

if TYPE_CHECKING:
    from collections.abc import Callable


def runner(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def shower(run: Callable[..., tuple[int, str, str]]) -> Callable[..., dict[str, Any]]:
    """Runs a command that must succeed: what it prints as JSON."""

    def show(*words: str) -> dict[str, Any]:
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return show
