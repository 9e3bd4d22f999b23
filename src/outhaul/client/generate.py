"""Write `sync` from `aio`, so that each operation is written once: `python -m outhaul.client.generate`.

What awaits becomes what blocks, word by word; a test fails while the result is stale. `running` is written by hand in
both, for there they differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FROM = Path(__file__).parent / "aio"
TO = Path(__file__).parent / "sync"
MODULES = (
    "client",
    "connection",
    "devices",
    "downloads",
    "erasures",
    "exports",
    "imports",
    "others",
    "people",
    "task",
)
_NOTICE = "# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.\n"
_WORDS = {
    "AsyncClient": "Client",
    "AsyncExportTask": "ExportTask",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aclosing": "closing",
    "aio": "sync",
    "aiter_lines": "iter_lines",
    "aiter_raw": "iter_raw",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
}
_ASIDE = re.compile(r", asynchronously\b")
_AWAITED = re.compile(r"\b(?:async|await) ")
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b")


def generated(module: str) -> str:
    """The text of a module of `sync`."""
    text = (FROM / f"{module}.py").read_text()
    text = _WORD.sub(lambda word: _WORDS[word[0]], _AWAITED.sub("", _ASIDE.sub("", text)))
    return _ruff(
        _ruff(_NOTICE + text, "check", "--select", "I,UP028", "--fix", "--unsafe-fixes", "--quiet"), "format"
    )


def _ruff(text: str, *command: str) -> str:
    call = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TO / "made.py"), "-"]
    return subprocess.run(call, input=text, text=True, capture_output=True, check=True).stdout  # noqa: S603  our own


def main() -> None:
    for module in MODULES:
        (TO / f"{module}.py").write_text(generated(module))


if __name__ == "__main__":
    main()
