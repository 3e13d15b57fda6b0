"""What the tests of `dnstrail run --enforce` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from live.enforced import client_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with the list of the client of a listed network."""
    with client_folder() as made:
        yield made
