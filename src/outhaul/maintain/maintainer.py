"""Takes the next small step of whatever maintenance there is to do."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from outhaul.errors import Invalid, OuthaulError, TooLarge
from outhaul.maintain.compaction import compact, vacuum
from outhaul.maintain.engine import Engine
from outhaul.maintain.erasure import Eraser
from outhaul.wire import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outhaul.config import Config
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger
    from outhaul.maintain.neighbours import Counting, Landing
    from outhaul.wire import Erasure

log = logging.getLogger(__name__)

_HOUR = 3600 * 1000
_LOOK_S = 0.2
_WAIT_S = 1.0
_AGAIN_S = 5.0
_TRYING = "It could not go on, and is being tried again: the server's log says why."


class Maintainer:
    """Maintains the tables of a data folder, between two landings of it; not thread-safe."""

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        config: Config,
        keyring: Keyring,
        count: Counting,
        now: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._now = now
        self._vacuumed = now()
        self._engine = Engine(data, config, now)
        self._eraser = Eraser(data, ledger, keyring, self._engine, count, now)
        self._landing: Landing | None = None
        self._erasing: dict[str, Iterator[bool]] = {}
        self._later: dict[str, float] = {}
        self._looked = 0.0
        self._erasures: list[Erasure] = []
        self._must_compact = True

    def turn(self, landing: Landing, *, landed: bool) -> bool:
        """Take a small step, if there is any to take; whether there was. `landed` says that a batch has just landed.

        Raises:
            Exception: landing must be begun anew, too.
        """
        if landing is not self._landing:
            # What was under way with another one is begun again from what is in the ledger.
            self._landing = landing
            self._erasing.clear()
            self._later.clear()
        if self._erase(landing):
            return True
        self._must_compact = self._must_compact or landed
        if landed:
            # More may be waiting, and only while none waits is there time.
            return False
        if self._must_compact:
            self._must_compact = self.compact(landing)
            return True
        return self.vacuum()

    def compact(self, landing: Landing) -> bool:
        """Merge small files of one table and day, if there are many; whether there were."""
        app_id = compact(self._engine, self._config, self._apps_in_hand())
        if app_id is not None:
            # As long as what it replaces was published, nobody could delete that.
            landing.adopt(app_id)
        return app_id is not None

    def vacuum(self) -> bool:
        """Once in an hour, delete files that were merged away or removed long ago; whether it was time."""
        if self._now() - self._vacuumed < _HOUR:
            return False
        self._vacuumed = self._now()
        vacuum(self._engine, self._config, self._ledger, self._apps_in_hand())
        return True

    def _apps_in_hand(self) -> set[str]:
        """The apps whose files only an erasure may change now: it knows which of them it has to look at."""
        return {
            erasure.app_id for erasure in self._ledger.unfinished_erasures() if erasure.phase in _EXCLUSIVE
        }

    # Erasures

    def _erase(self, landing: Landing) -> bool:
        """Take the next step of an erasure; whether there was one that does not wait."""
        return any(self._step(erasure, landing) for erasure in self._due())

    def _due(self) -> list[Erasure]:
        """Erasures to go on with: of each app one that removes, and all that wait for old files to be let go of."""
        now = time.monotonic()
        if now >= self._looked + _LOOK_S or self._erasing:
            self._looked = now
            self._erasures = self._ledger.unfinished_erasures()
        due, apps = [], set()
        for erasure in self._erasures:
            if erasure.phase == "deleting" or erasure.app_id not in apps:
                due.append(erasure)
            if erasure.phase != "deleting":
                apps.add(erasure.app_id)
        return [erasure for erasure in due if self._later.get(erasure.id, 0.0) <= now]

    def _step(self, erasure: Erasure, landing: Landing) -> bool:
        steps = self._erasing.get(erasure.id)
        if steps is None:
            steps = self._erasing[erasure.id] = self._eraser.steps(erasure.id, landing)
        try:
            worked = next(steps, None)
        except (Invalid, TooLarge) as error:
            self._fail(erasure, error)
            return True
        except Exception:
            # Whoever asked for it must not have to ask again because a disk was full for a while.
            log.exception("erasure %s: trying again in %.0f s", erasure.id, _AGAIN_S)
            self._drop(erasure.id)
            self._later[erasure.id] = time.monotonic() + _AGAIN_S
            self._ledger.update_erasure(erasure.id, error=_TRYING)
            return True
        if worked is None:
            log.info("erasure %s is done", erasure.id)
            self._drop(erasure.id)
        elif worked and erasure.error is not None:
            self._ledger.update_erasure(erasure.id, error=None)
        elif not worked:
            self._later[erasure.id] = time.monotonic() + _WAIT_S
        return worked is not False

    def _fail(self, erasure: Erasure, error: OuthaulError) -> None:
        log.warning("erasure %s failed: %s", erasure.id, error)
        failure = Failure(attempt=1, at=self._now(), code=error.code, message=error.message, hint=error.hint)
        self._ledger.end_erasure(erasure.id, self._now(), failure)
        self._drop(erasure.id)

    def _drop(self, erasure_id: str) -> None:
        self._erasing.pop(erasure_id, None)
        self._later.pop(erasure_id, None)
        self._erasures = []
        self._looked = 0.0


_EXCLUSIVE = ("finding", "removing", "forgetting")
