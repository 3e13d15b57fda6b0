"""`dnstrail history load` stores the transactions that a replay of the file shows, each once."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import dnstrail_probe
from builders.facts import stored
from dnstrail.events import OUTCOMES
from dnstrail.history.subjects import Subjects
from dnstrail_cli.pipeline import load_history
from dnstrail_history.store import store as store_module
from dnstrail_history.store.store import FactStore
from live.processes import dnstrail, run_dir
from live.workers import FakeClock

DEMO = Path(dnstrail_probe.__file__).parent / "sources/demo.pcap"


def test_a_loaded_file_has_the_transactions_of_its_replay(tmp_path):
    """Loaded twice, a file has each transaction of the pipeline once, with its time, outcome and relations."""
    history = tmp_path / "history"
    with run_dir() as folder:
        shown = dnstrail("replay", DEMO, "--run-dir", folder, "--events", "dns_transaction", "--output", "json")
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    expected = []
    for event in events:
        args = {one["name"]: one["value"] for one in event["args"]}
        expected.append((event["timestamp"], args["name"], args["outcome"], len(args["relations"])))
    for repeated in (0, len(events)):
        done = dnstrail("history", "--folder", history, "load", DEMO)
        assert done.returncode == 0, done.stderr
        assert f"{len(events)} transactions, {repeated} of them loaded before" in done.stderr
    found = [
        (fact.ended, fact.values.name, OUTCOMES[fact.values.outcome], len(fact.values.relations))
        for fact in stored(history)
    ]
    assert sorted(found) == sorted(expected)
    assert len(found) > 5


def test_an_interrupted_load_is_completed(tmp_path, monkeypatch):
    """What an interrupted load stored is not stored again, however much was stored since."""
    history, names = tmp_path / "history", ("--folder", tmp_path / "history", "load", DEMO)
    assert dnstrail("history", *names).returncode == 0
    whole = stored(history)
    for path in history.iterdir():
        path.unlink()
    with closing(FactStore(history, FakeClock())) as store:
        for fact in whole[:4]:
            store.add(fact)
        store.commit(store.progress)
    monkeypatch.setattr(store_module, "_KNOWN", 0)
    source = load_history.open_source(str(DEMO))
    start = load_history._start_of(str(DEMO))
    with closing(source), closing(FactStore(history, FakeClock())) as store:
        store.note_ids_of(start)
        chosen = load_history.HistoryFolder(history, Subjects())
        progress = load_history.ReadProgress(str(DEMO), FakeClock(), lambda: None)
        assert load_history._load(source, start, store, chosen, progress) == (len(whole), 4)
    assert sorted(stored(history), key=lambda fact: fact.id) == sorted(whole, key=lambda fact: fact.id)


def test_more_relations_than_may_wait_are_written_in_parts(tmp_path, monkeypatch):
    """A file whose answers exceed what may wait for a disk is loaded whole."""
    monkeypatch.setattr(store_module, "MOST_WAITING", 8)
    history = tmp_path / "history"
    source = load_history.open_source(str(DEMO))
    with closing(source), closing(FactStore(history, FakeClock())) as store:
        chosen = load_history.HistoryFolder(history, Subjects())
        progress = load_history.ReadProgress(str(DEMO), FakeClock(), lambda: None)
        count, _ = load_history._load(source, "s", store, chosen, progress)
    assert len(stored(history)) == count == 9


def test_what_is_excluded_is_not_loaded(tmp_path):
    """A load keeps nothing that is excluded."""
    history = tmp_path / "history"
    assert dnstrail("history", "--folder", history, "--exclude", "name=example", "load", DEMO).returncode == 0
    assert b"cdn" not in b"".join(path.read_bytes() for path in history.iterdir())


def test_a_load_is_refused(tmp_path):
    """A folder in use, a missing file and a file that is no capture exit with 2."""
    history = tmp_path / "history"
    (tmp_path / "text").write_text("no capture")
    assert dnstrail("history", "--folder", history, "load", tmp_path / "text").returncode == 2
    assert dnstrail("history", "--folder", history, "load", tmp_path / "missing").returncode == 2
    with closing(FactStore(history, FakeClock())):
        refused = dnstrail("history", "--folder", history, "load", DEMO)
    assert (refused.returncode, "in use" in refused.stderr) == (2, True)


def test_what_prevents_a_history_from_being_read_is_stated(tmp_path):
    """A segment that cannot be opened ends a load and a request to forget with 2 and no traceback."""
    history = tmp_path / "history"
    assert dnstrail("history", "--folder", history, "load", DEMO).returncode == 0
    (history / "0000000000.open").mkdir()
    done = dnstrail("history", "--folder", history, "load", DEMO)
    assert (done.returncode, "the history cannot be read" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
