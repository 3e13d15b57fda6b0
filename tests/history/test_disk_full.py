"""A full disk stops writing, is counted, and loses what waits too long; with room again the store goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from live.processes import PATIENCE

FULL = """
import json, sys
sys.path[:0] = {paths!r}
from contextlib import closing
from pathlib import Path
from builders.facts import fact_of, progress_of, stage_of, stored, stored_stages
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

disk = Path(sys.argv[1])
clock = FakeClock()
ballast = disk / "ballast"
added, faults = 0, set()

def fill():
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

with closing(FactStore(disk / "history", clock)) as store:
    def turn(count):
        global added
        for _ in range(count):
            name = f"n{{added}}.example"
            store.add(stage_of(added, name=name) if added % 2 else fact_of(added, name=name, relations=()))
            added += 1
        clock.advance(2)
        return store.commit(progress_of(added))

    assert turn(100)
    fill()
    while turn(1000):
        pass
    for _ in range(60):
        assert not turn(1000)
        faults.add(bool(store.fault))
    counted = dict(store.counters)
    ballast.unlink()
    assert turn(0)
    assert not store.fault
    assert turn(10)
fill()
with closing(FactStore(disk / "history", clock)) as store:
    clock.advance(2)
    assert not turn(100)
    assert store.fault
    ballast.unlink()
    assert turn(10)
    assert (store.fault, store.counters["stored"]) == ("", 110)
folder = disk / "history"
numbers = [[int(fact.values.name[1:-8]) for fact in facts] for facts in (stored(folder), stored_stages(folder))]
once = all(found == sorted({{*found}}) for found in numbers)
print(json.dumps([added, counted, once, [len(found) for found in numbers], sorted(faults), max(map(max, numbers))]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_stops_writing_until_there_is_room(tmp_path: Path) -> None:
    """On a full tmpfs facts wait, then are lost and counted; with room again those that wait are stored, in order.

    A store that starts on a full tmpfs does the same.
    """
    paths = [path for path in sys.path if path]
    program = textwrap.dedent(FULL).format(paths=paths)
    mount = 'mount -t tmpfs -o size=16m,mode=700 tmpfs "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path), sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    added, counted, once, found, faults, last = json.loads(done.stdout.splitlines()[-1])
    assert counted["unwritten"] > 0
    assert counted["write_failures"] >= 60
    assert faults == [True]
    assert once
    assert sum(found) == added - counted["unwritten"]
    assert min(found) > 100
    assert last == added - 1
