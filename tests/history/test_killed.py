"""A store that is killed holds each fact once, up to the last commit, and goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

from builders.facts import lives, stored, stored_stages
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

KILLS = 8
SMALL = 50
WRITER = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from builders.facts import BEGIN, SECOND, fact_of, progress_of, stage_of
from dnstrail.history import segment
from dnstrail_history.store import store
from live.workers import FakeClock

segment.MOST_TRANSACTIONS = store.MOST_TRANSACTIONS = {small}
found = store.FactStore(Path(sys.argv[1]), FakeClock(wall=BEGIN / SECOND))
begin = found.progress.positions["cache"].ended if found.progress.positions else 0
number = max(begin - 7, 0)  # some facts arrive again, as in a replay
while True:
    for _ in range(3):
        found.add(fact_of(number))
        found.add(stage_of(number))
        number += 1
    assert found.commit(progress_of(number))
    found.step()
    print(number, flush=True)
"""


def test_a_killed_store_holds_each_fact_once(tmp_path: Path) -> None:
    """Killed at any moment, the store holds all facts that it reported as written, each once and in order."""
    folder = tmp_path / "history"
    program = textwrap.dedent(WRITER).format(paths=[path for path in sys.path if path], small=SMALL)
    written = 0
    for kill in range(KILLS):
        command = [sys.executable, "-c", program, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            for _ in range(1 + 13 * kill % 40):  # at another place of a segment each time
                written = int(process.stdout.readline() or 0) or written
            os.kill(process.pid, signal.SIGKILL)
            rest, errors = process.stdout.read(), process.stderr.read()
            written = max([written, *(int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n"))])
        assert process.returncode == -signal.SIGKILL, errors
    with closing(FactStore(folder, FakeClock())) as store:
        full = (len(stored(folder)) + len(stored_stages(folder)) - 1) // SMALL
        wait_until(lambda: store.step() or len([*folder.glob("*.segment")]) >= full, "the full segments")
    for facts in (stored_stages(folder), stored(folder)):
        numbers = [fact.id.batch * 256 + fact.id.place for fact in facts]
        assert numbers == [*range(len(numbers))]
    assert written <= len(numbers) <= written + 3
    assert {life.answers for life in lives(folder)} == {len([*folder.glob("*.segment")]) * SMALL // 2}
