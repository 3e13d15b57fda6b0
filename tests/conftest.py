"""Profiles of hypothesis, and the network of live tests.

HYPOTHESIS_PROFILE is dev (default), short or long. In CI the examples are always the same.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from live.namespaces import Hosts, hosts, live_or_skip

os.environ.setdefault("DNSTRAIL_HISTORY_FOLDER", "none")  # a run of root would keep the names of this host
_IN_CI = os.environ.get("CI") == "true"
_SHARED = {
    "derandomize": _IN_CI,
    "print_blob": True,
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("dev", max_examples=100, **_SHARED)
settings.register_profile("short", max_examples=20, **_SHARED)
settings.register_profile("long", max_examples=5000, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_finish() -> None:
    """Leave all that stays until the end out of the garbage collections: they took a tenth of the time of the tests."""
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="session", autouse=True)
def kept_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the compiled eBPF programs of this run in a folder of its own."""
    os.environ["CACHE_DIRECTORY"] = str(tmp_path_factory.mktemp("programs", numbered=False))


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the host's zone be UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts that only the tests of a module use; every name below google.com has the address of the server."""
    live_or_skip()
    with hosts() as both:
        yield both
