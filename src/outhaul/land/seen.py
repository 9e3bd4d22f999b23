"""Which records were landed lately: 128-bit hashes of their ids, in sorted runs on disk.

Each landing adds one run; runs of a day are merged as they pile up, so looking up n ids touches a few files of
sequential pages and memory stays that of one merge. A run is named `<day>-<from>-<to>.npy` after the UTC day it
was received and the journal positions it covers, is written once and never changed; what a crash left over
from an unfinished landing is recognised by its positions and dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from outhaul.durable import sync

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KEY = np.dtype([("high", "<u8"), ("low", "<u8")])
_MERGE_AT = 8


class _Run(Struct, frozen=True, order=True):
    day: str
    first: int
    last: int
    path: Any

    @classmethod
    def of(cls, path: Path) -> _Run:
        day, first, last = path.stem.split("-")
        return cls(day, int(first), int(last), path)


class Seen:
    """The ids landed within the window, as of journal position `position`."""

    def __init__(self, folder: Path, position: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            leftover.unlink()
        self._runs = sorted(_Run.of(path) for path in folder.glob("*.npy"))
        for run in [run for run in self._runs if run.last > position or self._covered(run)]:
            run.path.unlink()
            self._runs.remove(run)

    def _covered(self, run: _Run) -> bool:
        """Whether a merge holds it already: a crash came between writing the merge and removing its parts."""
        return any(
            other != run and other.day == run.day and other.first <= run.first and run.last <= other.last
            for other in self._runs
        )

    def duplicates(self, keys: NDArray[Any], arrival: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which keys were seen before: in an earlier landing, or among `keys` with an earlier `arrival`."""
        order = _order(keys, arrival)
        ordered = keys[order]
        found = np.zeros(len(keys), dtype=bool)
        found[1:] = ordered[1:] == ordered[:-1]
        for run in self._runs:
            found |= _contains(np.load(run.path, mmap_mode="r"), ordered)
        result = np.empty(len(keys), dtype=bool)
        result[order] = found
        return result

    def add(self, keys: NDArray[Any], day: str, first: int, last: int) -> None:
        """Remember keys of the landing of journal positions `first` up to `last`; durable on return."""
        if len(keys):
            self._runs.append(self._write(_sorted(keys), day, first, last))

    def tidy(self, oldest_day: str) -> None:
        """Forget days before `oldest_day`, and merge runs that have piled up.

        Never before the landing that was added last is finished: a merge that holds it would be dropped with it.
        """
        for run in [run for run in self._runs if run.day < oldest_day]:
            run.path.unlink()
            self._runs.remove(run)
        for day in {run.day for run in self._runs}:
            runs = sorted(run for run in self._runs if run.day == day)
            while len(runs) >= _MERGE_AT:
                sizes = [run.path.stat().st_size for run in runs[-_MERGE_AT:]]
                # Each key then moves to a run at least twice the size of its own: log(n) times in all.
                if 2 * max(sizes) > sum(sizes):
                    break
                runs[-_MERGE_AT:] = [self._merge(runs[-_MERGE_AT:])]

    def _merge(self, runs: list[_Run]) -> _Run:
        keys = _sorted(np.concatenate([np.load(run.path, mmap_mode="r") for run in runs]))
        merged = self._write(keys, runs[0].day, runs[0].first, runs[-1].last)
        for run in runs:
            if run.path != merged.path:
                run.path.unlink()
            self._runs.remove(run)
        self._runs.append(merged)
        return merged

    def _write(self, keys: NDArray[Any], day: str, first: int, last: int) -> _Run:
        path = self._folder / f"{day}-{first:012d}-{last:012d}.npy"
        partial = path.with_suffix(".tmp")
        with partial.open("wb") as file:
            np.save(file, keys)
        sync(partial)
        partial.rename(path)
        sync(self._folder)
        return _Run(day, first, last, path)


def _sorted(keys: NDArray[Any]) -> NDArray[Any]:
    return keys[_order(keys, np.arange(len(keys)))]


def _order(keys: NDArray[Any], arrival: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order by key, then arrival."""
    order = np.argsort(keys["high"])
    highs = keys["high"][order]
    # Half a key tells nearly all keys apart; the slow sort is for the batches where it does not.
    if (highs[1:] == highs[:-1]).any():
        return np.lexsort((arrival, keys["low"], keys["high"]))
    return order


def _contains(run: NDArray[Any], keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the sorted keys are in the sorted run."""
    highs = run["high"]
    at = np.searchsorted(highs, keys["high"])
    found = np.zeros(len(keys), dtype=bool)
    # Equal high halves are next to never distinct keys, but each must be looked at.
    candidates = np.flatnonzero(at < len(run))
    while len(candidates):
        same = highs[at[candidates]] == keys["high"][candidates]
        candidates = candidates[same]
        found[candidates] |= run["low"][at[candidates]] == keys["low"][candidates]
        at[candidates] += 1
        candidates = candidates[(at[candidates] < len(run)) & ~found[candidates]]
    return found
