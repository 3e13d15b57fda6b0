"""A file of lives of the first version is read as it is, gets the second version once, and a kill harms nothing.

Tests of dnstrail.history.lives, dnstrail.history.database.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from builders.facts import lives
from dnstrail.errors import SettingsError
from dnstrail.history import lives as module
from dnstrail.history import lives_reader
from dnstrail.history.database import Schema, open_database, open_reader
from dnstrail.history.lives import LIVES, AskingProgram, RelationLife, merge_lives
from dnstrail.history.lives_reader import LivesReader
from dnstrail.history.periods import WEEKS_AFTER
from dnstrail.history.subjects import subject_of
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

FIRST = Schema(LIVES.application, LIVES.tables)  # as a program knows it that has the first version alone
DAY = 20_000  # in 2024
MANY = 3000
KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from dnstrail.history import database
from dnstrail.history.lives import LIVES

connect = database.connect

def connect_and_die(*values):
    found = connect(*values)
    found.execute("PRAGMA cache_size = 10")  # pages: the log gets the migration before its end
    found.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), {steps})
    return found

database.connect = connect_and_die
database.open_database(Path(sys.argv[1]), LIVES).close()
"""


def life_of(number: int, day: int = DAY) -> RelationLife:
    """Return a life; those of ten numbers differ in their times and counts, and further ones in their owners."""
    first = day * 86_400 + number
    last, end = first + 300 * (number % 10), first + 300 * (number % 10) + 7 * (number % 10)
    relation = (f"n{number // 10}.example", 1, f"192.0.2.{number % 10}")
    return RelationLife(day, relation, AskingProgram("curl", "web", 7), first, last, end, 1 + number % 10, number % 3)


def keep_as_version_1(folder: Path, kept: list[RelationLife]) -> Path:
    """Write lives as a program of the first version did."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "2024.lives"
    with closing(open_database(path, FIRST)) as database:
        texts = {text: number for number, text in enumerate({one for life in kept for one in life.relation[::2]})}
        database.execute("BEGIN")
        database.execute("INSERT INTO segments VALUES ('0000000001')")
        database.execute("INSERT INTO askers VALUES (1, 'curl', 'web', 7)")
        database.executemany("INSERT INTO texts VALUES (?, ?)", ((number, text) for text, number in texts.items()))
        rows = ((one.day, texts[one.relation[0]], 1, texts[one.relation[2]], 1, *one[3:]) for one in kept)
        database.executemany("INSERT INTO lives VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    return path


def version_of(path: Path) -> int:
    """Return the version of a file."""
    with closing(open_reader(path, LIVES, final=False)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def seen(folder: Path, key: str) -> list[RelationLife]:
    """Return the lives of a key."""
    with LivesReader(folder, pytest.fail) as reader:
        return sorted(reader.of(key, 0).lives)


def test_the_first_version_is_read_and_left(tmp_path):
    """A reader answers the same from a file of either version, and changes none."""
    kept = [life_of(number) for number in range(30)]
    path = keep_as_version_1(tmp_path, kept)
    before = path.read_bytes()
    answers = [seen(tmp_path, key) for key in ("n1.example", "192.0.2.4")]
    assert answers == [kept[10:20], kept[4::10]]
    with LivesReader(tmp_path, pytest.fail) as reader:
        firsts = sorted(reader.firsts())
    assert (lives(tmp_path), version_of(path), path.read_bytes()) == (kept, 1, before)
    open_database(path, LIVES).close()
    assert (lives(tmp_path), version_of(path)) == (kept, 2)
    assert [seen(tmp_path, key) for key in ("n1.example", "192.0.2.4")] == answers
    with LivesReader(tmp_path, pytest.fail) as reader:
        assert sorted(reader.firsts()) == firsts


def test_a_reader_does_not_stop_the_migration(tmp_path):
    """It shows the state that it opened, while the file gets the second version."""
    kept = [life_of(number) for number in range(30)]
    path = keep_as_version_1(tmp_path, kept)
    with LivesReader(tmp_path, pytest.fail) as reader:
        merge_lives(tmp_path, "0000000002", [life_of(0)])
        assert version_of(path) == 2
        assert sorted(reader.of("n0.example", 0).lives) == kept[:10]
    assert seen(tmp_path, "n0.example")[0].answers == 2 * kept[0].answers


def test_lives_are_added_to_the_first_version(tmp_path):
    """A merge brings the second version: lives that are there go on, and old ones become those of weeks."""
    kept = [life_of(number) for number in range(20)]
    path = keep_as_version_1(tmp_path, kept)
    assert merge_lives(tmp_path, "0000000001", [life_of(0)]) == 0  # a segment of the first version counts once
    assert (lives(tmp_path), version_of(path)) == (kept, 2)
    later = kept[5]._replace(first=kept[5].end + 10, last=kept[5].end + 20, end=kept[5].end + 90, answers=40, gaps=1)
    merge_lives(tmp_path, "0000000002", [later])
    grown = later._replace(first=kept[5].first, answers=kept[5].answers + 40, gaps=kept[5].gaps + 2)
    assert lives(tmp_path) == [*kept[:5], grown, *kept[6:]]
    with closing(sqlite3.connect(path)) as database:  # distances, not times, are stored
        stored = database.execute("SELECT first, lasted, held FROM lives WHERE first = ?", (grown.first,)).fetchall()
    assert stored == [(grown.first, grown.last - grown.first, 70)]
    merge_lives(tmp_path, "0000000003", [life_of(0, DAY + WEEKS_AFTER + 7)])
    weeks = lives(tmp_path)[:-1]
    assert {one.day for one in weeks} == {DAY - DAY % 7 + 4 - 7 * (DAY % 7 < 4)}  # a Monday
    assert [one[1:] for one in weeks] == [one[1:] for one in [*kept[:5], grown, *kept[6:]]]


def test_a_migration_that_is_killed_is_repeated(tmp_path):
    """Killed at any step, the file of the first version answers as before, and the next program migrates it."""
    kept = [life_of(number) for number in range(MANY)]
    path = keep_as_version_1(tmp_path, kept)
    steps, kills, logged = 200, 0, 0
    while True:
        program = KILLED.format(paths=[one for one in sys.path if one], steps=steps)
        ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60).returncode
        if ended == 0:
            break
        log = path.with_name("2024.lives-wal")
        assert ended == -signal.SIGKILL
        logged = max(logged, log.stat().st_size if log.exists() else 0)
        assert (version_of(path), seen(tmp_path, "n77.example")) == (1, kept[770:780])
        steps, kills = steps * 6, kills + 1
    assert kills >= 3
    assert logged > 0  # a kill came while the migration was written
    assert (version_of(path), lives(tmp_path) == sorted(kept)) == (2, True)


def test_an_earlier_program_refuses_the_second_version(tmp_path, monkeypatch):
    """It names the file and states that a later version made it, and writes nothing."""
    merge_lives(tmp_path, "0000000001", [life_of(0)])
    path = tmp_path / "2024.lives"
    before = path.read_bytes()
    monkeypatch.setattr(lives_reader, "LIVES", FIRST)
    monkeypatch.setattr(module, "LIVES", FIRST)
    expected = r"2024\.lives: a later version of dnstrail made it: use that version, or another folder"
    with pytest.raises(SettingsError, match=expected):
        LivesReader(tmp_path, pytest.fail)
    with pytest.raises(SettingsError, match=expected):
        merge_lives(tmp_path, "0000000002", [life_of(1)])
    assert path.read_bytes() == before


def test_what_the_first_version_holds_is_forgotten(tmp_path):
    """A request removes the lives of a name from a file of the first version, and keeps the others."""
    folder = tmp_path / "history"
    kept = [life_of(number) for number in range(30)]
    path = keep_as_version_1(folder, kept)
    clock = FakeClock(wall=DAY * 86_400.0)
    with closing(FactStore(folder, clock)) as store:
        request = ask_to_forget(folder, subject_of("n1.example"))
        wait_until(lambda: clock.advance(1) or store.step() or not request.exists(), "the request")
    assert (lives(folder), version_of(path)) == (kept[:10] + kept[20:], 2)
    assert b"n1.example" not in path.read_bytes()
