"""All that an app's exports say, for tests that compare it with what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asking import App, folder_files, proven, read

if TYPE_CHECKING:
    from running import Server

PERIODS = ("activities", "events", "jobs", "errors", "crashes", "sessions")
SNAPSHOTS = ("tags", "devices", "tokens", "feedbackByDate")


class Exported:
    """An app of `server`, which must allow files beside its data folder, and the rows of its exports."""

    def __init__(self, server: Server, name: str, platform: str = "ios") -> None:
        self.app = App(server, name, platform)
        self._folder = server.data.parent / "out" / name

    @property
    def key(self) -> str:
        return self.app.sdk_key

    def rows(self, segment: str) -> list[Any]:
        task = self.app.export(segment, f"file://{self._folder}/")
        return read(proven(folder_files(self._folder), task))[1]

    def everything(self) -> dict[str, list[Any]]:
        """The rows of every export, by the path segment that asks for it."""
        return {segment: self.rows(segment) for segment in PERIODS + SNAPSHOTS}

    def rejects(self) -> list[Any]:
        """What was set aside."""
        told = self.app.server.cli("rejects", "--app", self.app.app_id)
        return told["newest"]


def without(rows: list[dict[str, Any]], *fields: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in fields} for row in rows]
