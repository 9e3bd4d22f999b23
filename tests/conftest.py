"""What several test files share: the JavaScript packages, and a storage emulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from azurite import Azurite
from s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def node() -> Path:
    """The folder with the JavaScript packages that tests run."""
    folder = Path(__file__).parent / "node"
    if not (folder / "node_modules").is_dir():
        pytest.fail("The JavaScript packages of the tests are not installed: run `make setup`.")
    return folder


@pytest.fixture(scope="session")
def azurite(node: Path) -> Iterator[Azurite]:
    """A storage emulator with containers and tokens for them; one for each test process."""
    emulator = Azurite(node)
    try:
        yield emulator
    finally:
        emulator.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server with buckets and keys for them; one for each test process."""
    server = S3()
    try:
        yield server
    finally:
        server.close()
