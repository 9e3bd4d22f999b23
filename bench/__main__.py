"""All benches, one after the other: `python -m bench`, or `python -m bench export devices` for some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHES = {
    "collect": ["collect.py"],
    "land": ["land.py", "compare"],
    "export": ["export.py", "compare"],
    "memory": ["export.py", "memory"],
    "devices": ["devices.py"],
    "history": ["history.py"],
}


def main() -> None:
    for name in sys.argv[1:] or BENCHES:
        script, *arguments = BENCHES[name]
        subprocess.run([sys.executable, str(HERE / script), *arguments], check=True)


if __name__ == "__main__":
    main()
