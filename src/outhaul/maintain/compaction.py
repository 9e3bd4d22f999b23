"""Small files, merged into larger ones; files that nobody reads any more, deleted. No version comes to say anything else."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from outhaul.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outhaul.config import Config
    from outhaul.ledger.ledger import Ledger
    from outhaul.maintain.engine import Engine
    from outhaul.tables import StoredFile

_SMALL = 32 * 1024 * 1024
_MERGED = 128 * 1024 * 1024
_LOG_DAYS = 30
_DAY_S = 24 * 3600


def compact(engine: Engine, config: Config, busy: Callable[[str], bool]) -> str | None:
    """Merge small files of one table and day, if there are many, of an app that is not busy; the app, if there were."""
    for app_id in engine.tables.apps():
        if busy(app_id):
            continue
        for name in TABLES:
            days: dict[str | None, list[StoredFile]] = defaultdict(list)
            for file in engine.tables.files(app_id, name):
                if file.size < _SMALL:
                    days[file.day].append(file)
            for files in days.values():
                if len(files) >= config.compact_files:
                    engine.merge(app_id, name, _first(files))
                    return app_id
    return None


def vacuum(engine: Engine, config: Config, ledger: Ledger, busy: Callable[[str], bool]) -> Iterator[bool]:
    """Delete files that were merged away or removed long ago, but for those that somebody reads, table by table.

    An export reads what it has pinned, however long ago that was; whoever pins next, what is published.
    """
    for app_id in engine.tables.apps():
        for name in TABLES:
            newest = None if busy(app_id) else engine.tables.newest(app_id).get(name)
            if newest is not None:
                keep = [*readers(ledger, app_id).get(name, ()), newest]
                engine.tables.vacuum(app_id, name, config.keep_versions_hours, keep)
                engine.tables.trim(app_id, name, min(keep), before=time.time() - _LOG_DAYS * _DAY_S)
                yield True


def readers(ledger: Ledger, app_id: str) -> dict[str, list[int]]:
    """The versions of each of an app's tables that somebody reads: as published, and as pinned by exports."""
    # In this order: whatever is pinned after it was looked for is pinned as published.
    published = ledger.checkpoint().versions.get(app_id, {})
    versions: dict[str, list[int]] = defaultdict(list)
    for some in (published, *(pinned.pin.versions for pinned in ledger.pins(app_id))):
        for name, version in some.items():
            versions[name].append(version)
    return versions


def _first(files: list[StoredFile]) -> list[StoredFile]:
    """As many files, in order, as make one of a good size."""
    chosen: list[StoredFile] = []
    size = 0
    for file in files:
        size += file.size
        if len(chosen) > 1 and size > _MERGED:
            break
        chosen.append(file)
    return chosen
