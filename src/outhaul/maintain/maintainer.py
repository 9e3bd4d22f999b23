"""Takes the next small step of whatever maintenance there is to do."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from outhaul.errors import Invalid, OuthaulError, TooLarge
from outhaul.maintain.compaction import compact, vacuum
from outhaul.maintain.engine import Engine
from outhaul.maintain.erasure import Eraser
from outhaul.maintain.retention import Retainer
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
_REST_S = 60.0
_EXCLUSIVE = ("finding", "removing", "forgetting")
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
        self._engine = Engine(data, config, now)
        self._eraser = Eraser(data, ledger, keyring, self._engine, count, now)
        self._retainer = Retainer(ledger, self._engine, self._is_busy, now)
        self._landing: Landing | None = None
        self._must_compact = True
        self._rest_until = 0.0
        self._hourly: Iterator[bool] | None = None
        self._hourly_done: int | None = None
        self._erasing: dict[str, Iterator[bool]] = {}
        self._later: dict[str, float] = {}
        self._looked = 0.0
        self._erasures: list[Erasure] = []

    def turn(self, landing: Landing, *, landed: bool) -> bool:
        """Take a small step, if there is any to take; whether there was. `landed` says that a batch has just landed."""
        if landing is not self._landing:
            # What was under way with another one is begun again from what is in the ledger.
            self._landing = landing
            self._erasing.clear()
            self._later.clear()
            self._hourly = None
        if self._erase(landing):
            return True
        self._must_compact = self._must_compact or landed
        # More may be waiting to be landed, and only while none waits is there time.
        if landed or time.monotonic() < self._rest_until:
            return False
        try:
            return self._keep_house(landing)
        except Exception:
            log.exception("maintenance failed; trying again in %.0f s", _REST_S)
            self._rest_until = time.monotonic() + _REST_S
            self._hourly = None
            return True

    def _keep_house(self, landing: Landing) -> bool:
        """Take a step of what is done once in an hour, or else merge files, if there is any."""
        if self._hourly is None and (self._hourly_done is None or self._now() - self._hourly_done >= _HOUR):
            self._hourly = self._steps(landing)
        if self._hourly is not None:
            worked = next(self._hourly, None)
            if worked is None:
                self._hourly, self._hourly_done = None, self._now()
            if worked:
                return True
        if self._must_compact:
            app_id = compact(self._engine, self._config, self._is_busy)
            self._must_compact = app_id is not None
            if app_id is not None:
                # As long as what it replaces was published, nobody could delete that.
                landing.adopt(app_id)
                return True
        return False

    def _steps(self, landing: Landing) -> Iterator[bool]:
        left = yield from self._retainer.steps(landing)
        # Of others it must not wait for an erasure: one that lacks room on the disk may be waiting for this.
        yield from vacuum(self._engine, self._config, self._ledger, self._is_busy)
        until = self._now() + _HOUR
        while left and self._now() < until:
            yield False
            left = yield from self._retainer.steps(landing, left)

    def _is_busy(self, app_id: str) -> bool:
        """Whether only an erasure may change an app's files now: it knows which of them it has to look at."""
        unfinished = self._ledger.unfinished_erasures()
        return any(one.app_id == app_id and one.phase in _EXCLUSIVE for one in unfinished)

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
