"""The keys of full segments: they rule a segment out only where nothing fits, and they go before it."""

from __future__ import annotations

import os
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest

from builders.facts import BEGIN, fact_of, progress_of, stage_of
from dnstrail.captured import Process
from dnstrail.events import NET_CONNECTION
from dnstrail.history import segment
from dnstrail.history.database import open_existing
from dnstrail.history.log import segment_entries
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.segment_keys import hash_key, key_of_end, lacks_key
from dnstrail.history.subjects import subject_of
from dnstrail_history.store import store as module
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

SMALL = 24
SEGMENTS = 5
FIRST = "0000000001.segment"
ABSENT = [f"absent{number}.example" for number in range(2000)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=BEGIN / 1e9)


@pytest.fixture
def folder(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with full segments: the names and addresses of each are in no other one."""
    for one in (segment, module):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", SMALL)
    folder = tmp_path / "history"
    with closing(FactStore(folder, clock)) as store:
        for number in range(SEGMENTS * SMALL + 1):
            assert store.add(fact_in(number))
        assert store.commit(progress_of(1))
        wait_until(lambda: store.step() or store.counters["finished"] == SEGMENTS, "the full segments")
    return folder


def fact_in(number: int) -> object:
    """Return a fact of the segment with its number; the last of each segment is a connection."""
    place = number // SMALL + 1
    if number % SMALL == SMALL - 1:
        return stage_of(number, "end", time=BEGIN + number, name=f"c.{name_in(place)}")
    process = Process(10 + place, f"program{place}", "/usr/bin/program", start_time=1)
    relations = ((f"a{number}.{name_in(place)}", 1, f"192.0.2.{place}", 60),)
    return fact_of(number, ended=BEGIN + number, process=process, relations=relations)


def lacks(path: Path, key: str) -> bool:
    """Return whether a segment certainly lacks a key."""
    return lacks_key(path, [hash_key(key)])


def name_in(place: int) -> str:
    return f"shop{place}.example"


def opened(folder: Path, selection: LogSelection, topic: str = "") -> tuple[int, set[str]]:
    """Return how many entries are found, and which full segments are opened for that, by each way to read."""
    paths: list[Path] = []
    open_reader = segment_entries.open_reader

    def noting(path: Path, *args: object, **options: object) -> object:
        paths.append(path)
        return open_reader(path, *args, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segment_entries, "open_reader", noting)
        logs = [HistoryLog(folder, pytest.fail, *([topic] if topic else [])) for _ in range(2)]
        found = [*logs[0].read(selection)]
        assert logs[1].newest(selection, 1000) == found
    return len(found), {path.name for path in paths if path.suffix == ".segment"}


SELECTIONS = {
    "name": (LogSelection(name=f"a{SMALL + 1}.shop2.example"), "", 1),
    "end of names": (LogSelection(name="*.shop2.example"), "", SMALL - 1),
    "end within a label": (LogSelection(name="*p2.example"), "", SMALL - 1),
    "address": (LogSelection(network=ip_network("192.0.2.2")), "", SMALL - 1),
    "program": (LogSelection(process="program2"), "", SMALL - 1),
    "process": (LogSelection(process="12"), "", SMALL - 1),
    "name of a connection": (LogSelection(name="c.shop2.example"), NET_CONNECTION, 1),
    "receiver of connections": (LogSelection(network=ip_network("192.0.2.1")), NET_CONNECTION, SEGMENTS),
}


@pytest.mark.parametrize("kind", SELECTIONS)
def test_segments_that_lack_a_key_stay_closed(folder, kind):
    """A selection opens the segments in which something fits, and finds all of it there."""
    selection, topic, count = SELECTIONS[kind]
    everywhere = kind in {"end within a label", "receiver of connections"}
    names = {f"{place:010d}.segment" for place in range(1, SEGMENTS + 1)} if everywhere else {"0000000002.segment"}
    assert opened(folder, selection, topic) == (count, names)


def test_few_keys_are_found_in_vain(folder):
    """Of the names that no segment has, nearly all are known to be missing."""
    paths = sorted(folder.glob("*.segment"))
    in_vain = [(path, name) for path in paths for name in ABSENT if not lacks(path, name)]
    assert len(in_vain) < len(paths) * len(ABSENT) / 50


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 6, 60])
def test_long_names_are_found_by_their_ends(tmp_path, clock, monkeypatch, labels):
    """An end of a name with any number of labels opens the segment of the name, and others stay closed."""
    monkeypatch.setattr(segment, "MOST_TRANSACTIONS", 1)
    monkeypatch.setattr(module, "MOST_TRANSACTIONS", 1)
    name = ".".join(f"l{number}" for number in range(60)) + ".example"
    with closing(FactStore(tmp_path / "long", clock)) as store:
        for number in range(2):
            assert store.add(fact_of(number, relations=((name, 1, "192.0.2.1", 60),)))
        assert store.commit(progress_of(1))
        wait_until(lambda: store.step() or store.counters["finished"] == 1, "the full segment")
    path = tmp_path / "long" / FIRST
    end = ".".join(name.split(".")[-labels:])
    for cut in (f".{end}", end[1:]):
        assert not lacks(path, key_of_end(cut))
    assert lacks(path, key_of_end(f".other{end}")) == (labels < 5)


@pytest.mark.parametrize("change", ["missing", "empty", "shorter", "cut", "longer", "pipe", "folder", "link", "other"])
def test_without_sound_keys_a_segment_is_opened(folder, tmp_path, change):
    """Keys that are missing, no file of ours, or damaged rule nothing out: what is in the segment is found."""
    keys = folder / "0000000001.keys"
    content = keys.read_bytes()
    keys.unlink()
    if change == "pipe":
        os.mkfifo(keys)
    elif change == "folder":
        keys.mkdir()
    elif change == "link":
        keys.symlink_to(folder / "0000000002.keys")
    elif change == "other":
        keys.write_bytes(bytes(len(content)))
    elif change != "missing":
        cuts = {"empty": b"", "shorter": content[:-64], "cut": content[:-1], "longer": content + bytes(64)}
        keys.write_bytes(cuts[change])
    if change == "cut":  # the other blocks are sound
        assert any(not lacks(folder / FIRST, name) for name in ABSENT)
    else:
        assert not any(lacks(folder / FIRST, name) for name in ABSENT)
    for number in range(SMALL - 1):
        assert opened(folder, LogSelection(name=f"a{number}.shop1.example"))[0] == 1


def test_a_changed_byte_rules_nothing_out(folder):
    """Wherever a byte of the keys changes, no key of the segment seems to be missing."""
    path, keys = folder / FIRST, folder / "0000000001.keys"
    content = keys.read_bytes()
    present = [*(f"a{number}.shop1.example" for number in range(SMALL - 1)), "shop1.example", "192.0.2.1", "program1"]
    for place in range(len(content)):
        keys.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert not any(lacks(path, key) for key in present)


def test_blocks_that_changed_places_rule_nothing_out(folder):
    """A block states nothing at the place of another one, or in a file of another size."""
    path, keys = folder / FIRST, folder / "0000000001.keys"
    content = keys.read_bytes()
    blocks = [content[start : start + 64] for start in range(0, len(content), 64)]
    assert len(blocks) > 1
    for changed in (blocks[1:] + blocks[:1], blocks[1:], blocks * 2):
        keys.write_bytes(b"".join(changed))
        assert not any(lacks(path, name) for name in ABSENT)


def test_keys_are_of_this_user_alone(folder):
    """Other users cannot ask which names were seen."""
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.keys")} == {0o600}


def test_keys_go_with_what_is_forgotten(folder, clock):
    """After a request to forget, no keys contain what it named; those of other segments stay."""
    before = {path.name: path.read_bytes() for path in folder.glob("*.keys")}
    assert not lacks(folder / FIRST, "a0.shop1.example")
    with closing(FactStore(folder, clock)) as store:
        for subject in ("a0.shop1.example", "shop3.example"):
            request = ask_to_forget(folder, subject_of(subject))
            wait_until(lambda: clock.advance(1) or store.step() or not request.exists(), "the end")  # noqa: B023
    assert lacks(folder / FIRST, "a0.shop1.example")
    assert not lacks(folder / FIRST, "a1.shop1.example")
    after = {path.name: path.read_bytes() for path in folder.glob("*.keys")}
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"0000000001.keys", "0000000003.keys"}


def test_keys_without_a_segment_are_forgotten(folder, clock):
    """Keys that stayed behind their segment are removed with the first request."""
    (folder / FIRST).unlink()
    with closing(FactStore(folder, clock)) as store:
        request = ask_to_forget(folder, subject_of("absent.example"))
        wait_until(lambda: clock.advance(1) or store.step() or not request.exists(), "the end")
    assert {path.stem for path in folder.glob("*.keys")} == {path.stem for path in folder.glob("*.segment")}


@pytest.mark.parametrize("fault", ["damage", "bytes"])
def test_keys_go_with_their_segment(folder, clock, fault):
    """A segment that is moved aside or removed leaves no keys."""
    most_bytes = sum(path.stat().st_size for path in folder.glob("*.segment"))
    if fault == "damage":
        (folder / FIRST).write_bytes(b"no database")
    else:
        most_bytes -= 1
    with closing(FactStore(folder, clock, most_bytes=most_bytes)) as store:
        wait_until(lambda: store.step() or not (folder / FIRST).exists(), "the end of the segment")
    assert not (folder / "0000000001.keys").exists()
    assert (folder / "0000000002.keys").exists()


def test_a_segment_is_finished_over_the_keys_of_a_killed_worker(folder, clock):
    """Keys that an interrupted worker left beside an unfinished segment are written anew."""
    (folder / FIRST).rename(folder / "0000000001.open")
    (folder / "0000000001.keys").write_bytes(b"half of it")
    with closing(FactStore(folder, clock)) as store:
        wait_until(lambda: store.step() or store.counters["finished"] == 1, "the segment")
    assert lacks(folder / FIRST, ABSENT[0]) or lacks(folder / FIRST, ABSENT[1])
    assert not lacks(folder / FIRST, "a0.shop1.example")


def test_a_segment_whose_keys_are_no_text_is_moved_aside(folder, clock):
    """A bit that makes a name of a program bytes ends no worker."""
    path = folder / FIRST
    with closing(open_existing(path, segment.SCHEMA)) as database:
        database.execute("UPDATE programs SET name = CAST(name AS BLOB)")
    path.rename(path.with_suffix(".open"))
    with closing(FactStore(folder, clock)) as store:
        wait_until(lambda: store.step() or store.counters["damaged"], "the damage")
    assert [one.name for one in folder.glob("0000000001*")] == ["0000000001.open.damaged"]


def test_a_pattern_of_a_process_needs_no_key(folder):
    """Only what a segment certainly lacks keeps it closed: patterns are looked for."""
    assert opened(folder, LogSelection(process="program[2]"))[0] == SMALL - 1
    assert key_of_end("9") == ""
