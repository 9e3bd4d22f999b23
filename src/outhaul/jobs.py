"""Durable execution: tasks are worked through step by step, and taken up where they stopped. The only dbos import.

An attempt at a task is a workflow on the queue of its kind, partitioned by app so that no app can hold up the others. A
finished step is never repeated; one that was under way when the process died is, which its room allows for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, StepOptions

from outhaul.errors import DestinationUnreachable, OuthaulError, SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from outhaul.config import Config
    from outhaul.wire import Due

log = logging.getLogger(__name__)

_EXECUTOR = "outhaul"
_RETRY_S = 1.0
_BACKOFF = 3.0
_POLL_S = 0.1


class Work(NamedTuple):
    """A kind of task: what it consists of, and how much of it is done at the same time, in all and for one app.

    `steps` are functions of the task's id and the attempt's number, by name and in order. `fail` is called instead of
    the steps that are left when one raises, with the error as well.
    """

    steps: dict[str, Callable[[str, int], None]]
    fail: Callable[[str, int, Exception], None]
    at_once: int
    per_app: int


class Jobs:
    """Runs tasks of several kinds, by the names of their queues, on threads of this process; one per data folder."""

    def __init__(self, folder: Path, config: Config, kinds: dict[str, Work]) -> None:
        self._kinds = kinds
        self._enqueued: set[tuple[str, int]] = set()
        settings: DBOSConfig = {
            "name": "outhaul",
            "system_database_url": f"sqlite:///{folder / 'jobs.db'}",
            # One executor per data folder, always of that name: after a restart its work is its own again.
            "executor_id": _EXECUTOR,
            # Work begun before an upgrade is finished by the new version.
            "application_version": "1",
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": _POLL_S,
        }
        DBOS(config=settings)
        options: StepOptions = {
            "retries_allowed": True,
            "max_attempts": max(1, config.delivery_attempts),
            "interval_seconds": _RETRY_S,
            "backoff_rate": _BACKOFF,
            "should_retry": _can_help,
        }
        self._run = {queue: _workflow(queue, work, options) for queue, work in kinds.items()}

    def start(self) -> None:
        """Take up what was left, and begin to listen."""
        DBOS.launch()
        for queue, work in self._kinds.items():
            DBOS.register_queue(
                queue,
                worker_concurrency=work.at_once,
                partition_concurrency=work.per_app,
                polling_interval_sec=_POLL_S,
                on_conflict="always_update",
            )

    def enqueue(self, queue: str, task: Due) -> None:
        """Have an attempt at a task made; asking twice is the same as asking once."""
        known = (task.id, task.attempt)
        if known in self._enqueued:
            return
        with SetWorkflowID(f"{task.id}.{task.attempt}"), SetEnqueueOptions(queue_partition_key=task.app_id):
            DBOS.enqueue_workflow(queue, self._run[queue], task.id, task.attempt)
        self._enqueued.add(known)


def _workflow(queue: str, work: Work, options: StepOptions) -> Callable[[str, int], None]:
    # No limit: a server killed a hundred times must still finish its tasks.
    @DBOS.workflow(name=queue.removesuffix("s"), max_recovery_attempts=None)
    def run(task_id: str, attempt: int) -> None:
        try:
            for name, step in work.steps.items():
                DBOS.run_step({**options, "name": name}, step, task_id, attempt)
        except Exception as error:
            cause = _cause(error)
            if not isinstance(cause, OuthaulError):
                log.exception("task %s failed", task_id, exc_info=cause)
            # Until this is said the task, and the rest of its app's, would wait for ever.
            again: StepOptions = {"name": "fail", "retries_allowed": True, "max_attempts": 100}
            DBOS.run_step(again, work.fail, task_id, attempt, cause)

    return run


def _can_help(error: BaseException) -> bool:
    return isinstance(error, DestinationUnreachable | SourceUnreachable)


def _cause(error: Exception) -> Exception:
    """The step's own error, out of what the engine wraps it in when retries are used up."""
    attempts = getattr(error, "errors", None)
    return attempts[-1] if attempts else error
