"""A million lines and ten thousand faulty ones, with the server killed twice on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from running import Server
from test_intake_server import Campaign, settings

if TYPE_CHECKING:
    from pathlib import Path

    from azurite import Azurite

pytestmark = pytest.mark.soak

LINES = 1_000_000
MEMORY_KIB = 1536 * 1024


def test_a_million_lines(tmp_path: Path, azurite: Azurite) -> None:
    with Server(tmp_path / "data", **settings(azurite)) as server:
        campaign = Campaign(server, azurite, LINES, LINES // 100)
        import_id = campaign.ask(campaign.upload(packed=False))
        begun = time.monotonic()
        found = campaign.wait(import_id, [LINES // 3, 2 * LINES // 3], 900)
        seconds = time.monotonic() - begun
        campaign.check(found)
        peak = max(campaign.peaks.values())
        print(f"{LINES} lines in {seconds:.0f} s, killed twice; at most {peak // 1024} MiB in a process")  # noqa: T201
        assert peak < MEMORY_KIB
