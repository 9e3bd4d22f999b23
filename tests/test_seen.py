"""What was landed lately is known again: against a set in Python, over merges, restarts and cut-off landings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outhaul.land.seen import KEY, Seen

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
DAY = "20261123"


def keys(*pairs: tuple[int, int]) -> NDArray[np.void]:
    return np.array(list(pairs), KEY)


def numbered(*numbers: int) -> NDArray[np.void]:
    """Keys that differ in one half or the other."""
    return keys(*((number % 7, number // 7) for number in numbers))


def repeated(seen: Seen, found: NDArray[np.void]) -> list[bool]:
    result: list[bool] = seen.duplicates(found, np.arange(len(found))).tolist()
    return result


def remember(seen: Seen, position: int, *numbers: int, day: str = DAY) -> None:
    found = numbered(*numbers)
    new = ~seen.duplicates(found, np.arange(len(found)))
    seen.add(found[new], day, position, position + 1)


def test_a_key_is_known_once_it_was_added(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    assert repeated(seen, numbered(1, 2)) == [False, False]
    seen.add(numbered(1, 2), DAY, 0, 1)
    assert repeated(seen, numbered(2, 3, 1)) == [True, False, True]
    assert repeated(Seen(tmp_path, 1), numbered(2, 3, 1)) == [True, False, True]


def test_of_equal_keys_in_one_batch_the_first_to_arrive_is_new(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    found = numbered(5, 4, 5, 5, 4)
    assert seen.duplicates(found, np.array([30, 10, 20, 40, 50])).tolist() == [True, False, False, True, True]


def test_keys_that_share_a_half_are_told_apart(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    top = 2**64 - 1
    seen.add(keys((7, 1), (7, 3), (top, top), (0, 5)), DAY, 0, 1)
    asked = keys((7, 0), (7, 1), (7, 2), (7, 3), (7, 4), (top, top), (top, 0), (0, 0), (0, 5))
    assert repeated(seen, asked) == [False, True, False, True, False, True, False, False, True]


def test_an_empty_batch_asks_and_adds_nothing(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    seen.add(numbered(), DAY, 0, 1)
    assert repeated(seen, numbered()) == []
    assert list(tmp_path.iterdir()) == []


def test_days_before_the_window_are_forgotten(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    remember(seen, 0, 1, day="20261115")
    remember(seen, 1, 2, day="20261116")
    remember(seen, 2, 3, day="20261123")
    seen.tidy("20261116")
    assert repeated(seen, numbered(1, 2, 3)) == [False, True, True]
    assert repeated(Seen(tmp_path, 3), numbered(1, 2, 3)) == [False, True, True]


def test_runs_stay_few_and_keys_are_seldom_rewritten(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    written = 0
    names: set[str] = set()
    for position in range(1000):
        remember(seen, position, 2 * position, 2 * position + 1)
        seen.tidy(DAY)
        now = {path.name: path.stat().st_size for path in tmp_path.glob("*.npy")}
        written += sum(size for name, size in now.items() if name not in names)
        names = set(now)
        assert len(now) <= 40
    # Rewriting everything each time that eight runs are there would write some 70 times what is kept.
    assert written < 16 * sum(now.values())
    assert all(repeated(seen, numbered(*range(2000))))


def test_a_landing_cut_short_after_adding_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    for position in range(7):
        remember(seen, position, position)
        seen.tidy(DAY)
    remember(seen, 7, 7)
    again = Seen(tmp_path, 7)
    assert repeated(again, numbered(*range(8))) == [True] * 7 + [False]
    remember(again, 7, 7)
    assert repeated(Seen(tmp_path, 8), numbered(*range(8))) == [True] * 8


def test_a_merge_cut_short_at_any_point_loses_nothing(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 0)
    for position in range(8):
        remember(seen, position, position)
    parts = {path.name: path.read_bytes() for path in tmp_path.glob("*.npy")}
    assert len(parts) == 8
    seen.tidy(DAY)
    merged = next(tmp_path.glob("*.npy"))
    for kept in range(9):
        for name in sorted(parts)[:kept]:
            (tmp_path / name).write_bytes(parts[name])
        (tmp_path / "half.tmp").write_bytes(b"half")
        again = Seen(tmp_path, 8)
        assert [path.name for path in tmp_path.iterdir()] == [merged.name]
        assert repeated(again, numbered(*range(9))) == [True] * 8 + [False]


BATCHES = st.lists(
    st.tuples(st.lists(st.integers(0, 60), max_size=12), st.sampled_from(["", "", "", "reopen", "cut"])),
    max_size=40,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seen")


@settings(max_examples=60, deadline=None)
@given(batches=BATCHES)
def test_it_answers_as_a_set_would(folder: Path, batches: list[tuple[list[int], str]]) -> None:
    for path in folder.iterdir():
        path.unlink()
    seen, model, position = Seen(folder, 0), set[int](), 0
    for numbers, then in batches:
        arrival = np.arange(len(numbers))[::-1]
        found = numbered(*numbers)
        duplicate = seen.duplicates(found, arrival)
        expected, fresh = {}, set()
        for at in reversed(range(len(numbers))):
            expected[at] = numbers[at] in model or numbers[at] in fresh
            fresh.add(numbers[at])
        assert duplicate.tolist() == [expected[at] for at in range(len(numbers))]
        seen.add(found[~duplicate], DAY, position, position + 1)
        if then == "cut":
            seen = Seen(folder, position)
            continue
        model |= fresh
        position += 1
        seen.tidy(DAY)
        if then == "reopen":
            seen = Seen(folder, position)
