"""Deliveries to folders of the server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from delivering import MIB, at
from outhaul.container import Destinations
from outhaul.errors import DestinationDenied, DestinationError, DestinationMissing, DestinationRefused


def test_a_folder_takes_files_by_link(tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"content")
    file.chmod(0o600)
    (tmp_path / "out").mkdir()
    told: list[int] = []
    opened = Destinations(f"file://{tmp_path}/out/").open(
        at(f"file://{tmp_path}/out/2030/jan%20uary"), timeout_s=1
    )
    assert not (tmp_path / "out" / "2030").exists()
    for _ in range(2):  # the second time over the same file, as a resumed delivery does
        opened.put_file("a.json", file, "application/json", told.append)
        opened.put_bytes("a.manifest.json", b"{}", "application/json")
    folder = tmp_path / "out" / "2030" / "jan uary"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.json": b"content",
        "a.manifest.json": b"{}",
    }
    assert (folder / "a.json").samefile(file)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert told == [7, 7]


def test_a_folder_on_another_file_system_takes_copies(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    file = shared_memory / f"outhaul-{os.getpid()}"
    told: list[int] = []
    try:
        file.write_bytes(bytes(9 * MIB))
        opened = Destinations(f"file://{tmp_path}").open(at(f"file://{tmp_path}"), timeout_s=1)
        opened.put_file("a.json", file, "application/json", told.append)
        file.write_bytes(b"other")
        opened.put_file("b.json", file, "application/json")
    finally:
        file.unlink()
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"a.json": 9 * MIB, "b.json": 5}
    assert told == [8 * MIB, 9 * MIB, 9 * MIB]


def test_a_copy_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    file = shared_memory / f"outhaul-stopped-{os.getpid()}"

    def stop(_sent: int) -> None:
        raise KeyError("cancelled")

    try:
        file.write_bytes(bytes(9 * MIB))
        with pytest.raises(KeyError, match="cancelled"):
            Destinations(f"file://{tmp_path}").open(at(f"file://{tmp_path}"), timeout_s=1).put_file(
                "a.json", file, "application/json", stop
            )
    finally:
        file.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_link_put_in_the_way_later_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    opened = Destinations(f"file://{tmp_path}/out").open(at(f"file://{tmp_path}/out/a/b"), timeout_s=1)
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationRefused):
        opened.put_bytes("x.json", b"x", "application/json")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_folder_that_the_operator_allowed_is_made_when_it_is_not_there(tmp_path: Path) -> None:
    opened = Destinations(f"file://{tmp_path}/new/").open(at(f"file://{tmp_path}/new/a"), timeout_s=1)
    opened.put_bytes("x.json", b"x", "application/json")
    assert (tmp_path / "new" / "a" / "x.json").read_bytes() == b"x"


def test_folders_that_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    opened = Destinations(f"file://{tmp_path}").open(at(f"file://{tmp_path}/file/deeper"), timeout_s=1)
    with pytest.raises(DestinationMissing):
        opened.put_bytes("x", b"x", "text/plain")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DestinationError, match="Is a directory"):
        Destinations(f"file://{tmp_path}").open(at(f"file://{tmp_path}"), timeout_s=1).put_bytes(
            "taken", b"x", "text/plain"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"file", "taken"}


def test_a_folder_that_may_not_be_written_to() -> None:
    if not Path("/sys/kernel").is_dir():
        pytest.skip("needs a folder that even root may not write to")
    opened = Destinations("file:///sys/kernel/").open(at("file:///sys/kernel/"), timeout_s=1)
    with pytest.raises(DestinationDenied, match="may not be written to"):
        opened.put_bytes("x", b"x", "text/plain")


def test_a_full_folder(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (tmp_path / "local").write_bytes(bytes(3 * MIB))
    mount = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m none {full} && "$@"',
        "-",
    ]
    if (
        not shutil.which("unshare")
        or subprocess.run([*mount, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    program = (
        "import sys; from pathlib import Path; from outhaul.container import Destinations\n"
        "from outhaul.wire import Destination\n"
        "from outhaul.errors import DestinationError\n"
        "url = f'file://{sys.argv[1]}'; opened = Destinations(url).open(Destination(url=url), timeout_s=1)\n"
        "try: opened.put_file('a.json', Path(sys.argv[2]), 'application/json')\n"
        "except DestinationError as error: print(error.code, error)\n"
        "print(list(Path(sys.argv[1]).iterdir()))\n"
    )
    command = [*mount, sys.executable, "-c", program, str(full), str(tmp_path / "local")]
    told, left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told.startswith("destination_failed")
    assert "is full" in told
    assert left == "[]"
