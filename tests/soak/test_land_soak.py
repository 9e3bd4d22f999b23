"""Landing for longer: a hundred kills at random moments, and many more time lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landing import Site
from test_land_crash import kill_at_random_moments
from test_land_timelines import LINES, Line, check_timelines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("lines"))
    yield site
    site.close()


def test_a_hundred_kills(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 100, seed=17)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINES, min_size=1, max_size=60))
def test_many_time_lines(site: Site, lines: list[Line]) -> None:
    check_timelines(site, lines)
