"""Runs of a bench, each a process of its own that reports its own peak memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def child(script: str, arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MiB of one run, whose last word on stdout is `peak_mib`."""
    begun = time.perf_counter()
    process = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - begun, float(process.stdout.split()[-1])


def peak_mib() -> float:
    """This process's own peak, since it was started: getrusage would count its parent's, from before."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
