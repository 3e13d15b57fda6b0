"""What is forgotten is in no byte of the folder, and all else stays."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from builders.facts import BEGIN, CURL, FLOW, fact_of, lives, progress_of, stage_of, stored, stored_stages
from dnstrail.captured import Flow, Process
from dnstrail.history import segment
from dnstrail.history.closing import finish
from dnstrail.history.fact import Fact, read_id
from dnstrail.history.lives import AskingProgram
from dnstrail.history.lives_reader import LivesReader
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.subjects import Subjects, subject_of
from dnstrail_history.store import forgetting
from dnstrail_history.store import store as module
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

SMALL = 8
SECRET = "secret.example"
ALICE = Process(9, "firefox", "/usr/bin/firefox", user_id=1000, start_time=7)
NAMELESS = Process(10, user_id=1000)  # it ended before its program was read
RESOLVED = Process(3, "resolved", "/usr/lib/resolved", user_id=991, start_time=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for one in (segment, module):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", SMALL)
    monkeypatch.setattr(forgetting, "_AT_ONCE", 3)
    return tmp_path / "history"


def question(number: int, name: str, process: Process | None = CURL, flow: Flow = FLOW, **values: object) -> Fact:
    """Return a question with an alias and an address of its own."""
    relations = ((name, 5, f"cdn.{name}", 60), (f"cdn.{name}", 1, f"192.0.2.{number % 250}", 30))
    fact = fact_of(number, ended=BEGIN + number, name=name, relations=relations, process=process, **values)
    asked_for = fact.values.asked_for and read_id(fact.values.asked_for)
    return Fact(fact.id, asked_for or None, fact.host, fact.ended, process, flow, fact.values)


def fill(store: FactStore, facts: list[Fact]) -> None:
    """Store facts, and let their full segments be finished."""
    for number, fact in enumerate(facts, 1):
        assert store.add(fact)
        assert store.commit(progress_of(number))
    full = (len(facts) - 1) // SMALL
    wait_until(lambda: store.step() or store.counters["finished"] == full, "the full segments")


def forget(store: FactStore, folder: Path, subjects: Subjects) -> None:
    """Let a store fulfil a request."""
    request = ask_to_forget(folder, subjects)

    def is_fulfilled() -> bool:
        store._clock.advance(1)
        store.step()
        return not request.exists()

    wait_until(is_fulfilled, "the end of the request")
    store.step()


def holding(folder: Path, *texts: str | bytes) -> list[str]:
    """Return the files that hold one of some texts, forwards or backwards as an index of suffixes has it."""
    found = [text.encode() if isinstance(text, str) else text for text in texts]
    found += [text[::-1] for text in found]
    return sorted(path.name for path in folder.iterdir() if any(text in path.read_bytes() for text in found))


def test_no_byte_of_a_forgotten_name_is_left(folder: Path) -> None:
    """Closed and open segments, logs, years, free pages and damaged files hold nothing of a name or of those below."""
    facts = [question(number, f"n{number}.{SECRET}" if number % 3 else f"n{number}.example") for number in range(30)]
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, facts)
        (folder / "0000000099.segment.damaged").write_text(SECRET)
        before = holding(folder, SECRET)
        assert {Path(name).suffix for name in before} >= {".segment", ".lives", ".damaged"}
        assert any(".open" in name for name in before)
        for number in range(2):
            store.add(stage_of(number, name=f"web.{SECRET}" if number else "a.example"))
            store.add(stage_of(number, "end", name=None))
        assert store.commit(progress_of(31))
        store.add(question(31, SECRET))  # it waits
        forget(store, folder, subject_of(SECRET))
        assert holding(folder, SECRET) == []
        store.add(question(32, "later.example"))
        assert store.commit(progress_of(32))
    kept = [fact for fact in facts if SECRET not in fact.values.name]
    assert [fact.values for fact in stored(folder)][:-1] == [fact.values for fact in kept]
    assert [stage.id.place for stage in stored_stages(folder)] == [0, 0]  # each stage of the other connection is gone
    assert {life.relation[0].removeprefix("cdn.") for life in lives(folder)} == {fact.values.name for fact in kept}


def test_the_rest_of_a_file_is_as_it_was(folder: Path) -> None:
    """A file that is written anew keeps facts, ids, coverage, age and mode; a file without the name is not touched."""
    facts = [question(number, "a.example") for number in range(SMALL)]
    facts += [question(SMALL + number, "b.example" if number else SECRET) for number in range(SMALL + 1)]
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, facts)
        first, second = sorted(folder.glob("*.segment"))
        inodes, age = (first.stat().st_ino, second.stat().st_ino), second.stat().st_mtime_ns
        forget(store, folder, subject_of(SECRET))
    assert stored(folder) == [fact for fact in facts if fact.values.name != SECRET]
    assert first.stat().st_ino == inodes[0]
    assert (second.stat().st_ino != inodes[1], second.stat().st_mtime_ns) == (True, age)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        assert store.progress == progress_of(len(facts))
        assert not store.add(facts[0])


def test_a_segment_is_written_anew_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request keeps few facts of a segment in memory at a time, in their order."""
    parts: list[int] = []
    write = segment.OpenSegment.write

    def noting(self: segment.OpenSegment, facts: list[Fact], *progress: object) -> None:
        parts.append(len(facts))
        write(self, facts, *progress)

    facts = [question(number, SECRET if number == 2 else f"n{number}.example") for number in range(SMALL + 1)]
    with closing(FactStore(folder, FakeClock())) as store:
        fill(store, facts)
        monkeypatch.setattr(segment.OpenSegment, "write", noting)
        forget(store, folder, subject_of(SECRET))
    assert parts[:3] == [3, 3, 1]
    assert stored(folder) == [fact for fact in facts if fact.values.name != SECRET]


def test_an_address_is_forgotten_in_each_place(folder: Path) -> None:
    """An address is forgotten as an answer, as the client, as the resolver and in a reverse question."""
    client = Flow(bytes([192, 0, 2, 251]), 4000, bytes([10, 0, 0, 53]), 53)
    facts = [
        question(0, "kept.example"),
        question(1, "by-client.example", None, client, hop=2),
        question(2, "x.example"),
        fact_of(3, name="251.2.0.192.in-addr.arpa", relations=(), type=12),
        fact_of(4, name="answer.example", relations=(("answer.example", 1, "192.0.2.251", 60),)),
        fact_of(5, name="asked.example", relations=(), resolver=bytes([192, 0, 2, 251])),
    ]
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, facts)
        forget(store, folder, subject_of("192.0.2.251"))
    assert [fact.values.name for fact in stored(folder)] == ["kept.example", "x.example"]
    assert holding(folder, "192.0.2.251", bytes([192, 0, 2, 251]), "251.2.0.192") == []


def test_a_user_is_forgotten_with_the_questions_for_this_user(folder: Path) -> None:
    """The questions of a user, those that a forwarder asked for them, and the relations of both are forgotten."""
    facts = []
    for number in range(0, 30, 3):
        facts.append(
            question(number, f"h{number}.example", RESOLVED, hop=1, asked_for=f"s/0/{number + 1}")  # it ends first
        )
        facts.append(question(number + 1, f"h{number}.example", ALICE if number % 2 else NAMELESS))
        facts.append(question(number + 2, f"o{number}.example", RESOLVED))
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, facts)
        forget(store, folder, Subjects(users=frozenset({1000})))
    assert {fact.values.name[0] for fact in stored(folder)} == {"o"}
    assert len(stored(folder)) == 10
    assert {life.asker for life in lives(folder)} == {AskingProgram("/usr/lib/resolved", "", 991)}
    assert holding(folder, *(f"h{number}.example" for number in range(0, 30, 3))) == []


@pytest.mark.parametrize("between", [0, SMALL])
def test_a_question_for_a_user_that_ends_late_is_forgotten(folder: Path, between: int) -> None:
    """The questions that forwarders asked for a user are forgotten, also those that end after the user's, or later."""
    facts = [question(0, "h.example", ALICE)]
    facts += [question(number, "o.example", RESOLVED) for number in range(1, between)]
    facts += [
        question(20, "h.example", RESOLVED, hop=1, asked_for="s/0/21"),  # for the forwarder that follows
        question(21, "h.example", RESOLVED, hop=1, asked_for="s/0/0"),
        *(question(number, "o.example", RESOLVED) for number in range(30, 30 + SMALL)),
    ]
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, facts)
        store.add(question(50, "h.example", RESOLVED, hop=1, asked_for="s/0/60"))  # they wait
        store.add(question(60, "h.example", ALICE))
        forget(store, folder, Subjects(users=frozenset({1000})))
        assert store.commit(progress_of(60))
    assert {fact.values.name for fact in stored(folder)} == {"o.example"}


def test_what_was_interrupted_is_forgotten_at_the_next_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request stays until nothing is left: a worker that ended meanwhile goes on at its next start."""
    facts = [question(number, f"n{number}.{SECRET}") for number in range(20)] + [question(20, "a.example")]
    clock = FakeClock(wall=BEGIN / 1e9)
    with monkeypatch.context() as patched, closing(FactStore(folder, clock)) as store:
        fill(store, facts)
        put, replaced = forgetting._put, []

        def fails_after_one(new: Path, path: Path) -> None:
            if replaced:
                raise OSError(28, "No space left on device")
            replaced.append(put(new, path))

        patched.setattr(forgetting, "_put", fails_after_one)
        request = ask_to_forget(folder, subject_of(SECRET))
        wait_until(lambda: store.step() or (clock.advance(1), store._asked > clock.monotonic() + 5)[1], "a failure")
        assert request.exists()
    with closing(FactStore(folder, clock)) as store:
        wait_until(lambda: store.step() or clock.advance(1) or not request.exists(), "the end of the request")
    assert holding(folder, SECRET) == []
    assert [fact.values.name for fact in stored(folder)] == ["a.example"]


def test_a_segment_whose_end_was_interrupted_gets_no_further_fact(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request ends a segment that is not full. If the worker ends before that is done, later facts are found, too."""
    clock = FakeClock(wall=BEGIN / 1e9)
    with closing(FactStore(folder, clock)) as store:
        fill(store, [question(1, "early.example")])
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("ended")))
        with pytest.raises(OSError, match="ended"):
            finish(folder / "0000000001.open")
    with closing(FactStore(folder, clock)) as store:
        assert store.add(question(2, "late.example"))
        assert store.commit(progress_of(2))
        assert (folder / "0000000002.open").exists()
        wait_until(lambda: store.step() or store.counters["finished"] == 1, "the first segment")
    assert [fact.values.name for fact in stored(folder)] == ["early.example", "late.example"]
    for name in ("early.example", "late.example"):
        assert len([*HistoryLog(folder, [].append).read(LogSelection(name=name))]) == 1
        with LivesReader(folder, [].append) as reader:
            assert len(reader.of(name, 0).lives) > 0


def test_a_question_for_a_user_is_forgotten_after_an_interruption(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a forwarder asked for a user is forgotten, also if the questions of this user were removed before."""
    facts = [question(0, f"h.{SECRET}", RESOLVED, hop=1, asked_for=f"s/0/{SMALL}")]
    facts += [question(number, "o.example", RESOLVED) for number in range(1, SMALL)]
    facts += [question(SMALL, f"h.{SECRET}", ALICE), question(SMALL + 1, "o.example", RESOLVED)]
    clock = FakeClock(wall=BEGIN / 1e9)
    with monkeypatch.context() as patched, closing(FactStore(folder, clock)) as store:
        fill(store, facts)
        put = forgetting._put

        def fails_in_the_first(new: Path, path: Path) -> None:
            if path.name == "0000000001.segment":
                raise OSError(28, "No space left on device")
            put(new, path)

        patched.setattr(forgetting, "_put", fails_in_the_first)
        request = ask_to_forget(folder, Subjects(users=frozenset({1000})))
        wait_until(lambda: store.step() or (clock.advance(1), store._asked > clock.monotonic() + 5)[1], "a failure")
        assert {fact.process for fact in stored(folder)} == {RESOLVED}
    with closing(FactStore(folder, clock)) as store:
        wait_until(lambda: store.step() or clock.advance(1) or not request.exists(), "the end of the request")
    assert {fact.values.name for fact in stored(folder)} == {"o.example"}
    assert not [*folder.glob("*.removed*")]


def test_no_other_file_is_a_request(folder: Path) -> None:
    """A file that is no request is refused, and removes nothing."""
    clock = FakeClock(wall=BEGIN / 1e9)
    with closing(FactStore(folder, clock)) as store:
        fill(store, [question(0, SECRET)])
        wrong = folder / "x.forget"
        wrong.write_bytes(b'{"names": 5}')
        store.step()
        clock.advance(100)
        store.step()
        assert wrong.exists()
    assert len(stored(folder)) == 1


def test_files_of_an_interrupted_request_are_removed(folder: Path) -> None:
    """A log of a killed worker adds nothing to a file that is written anew; requests that are not whole are removed."""
    facts = [question(number, f"n{number}.{SECRET}" if number == 2 else "a.example") for number in range(SMALL + 1)]
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, facts)
        new = folder / "0000000001.new"
        with closing(segment.OpenSegment(new)) as killed:
            killed.write(facts[:SMALL], progress_of(1))
            log = folder / "0000000001.new-wal"
            written = log.read_bytes()
        new.unlink()
        log.write_bytes(written)
        (folder / "0000000002.new.copy").write_text(SECRET)
        (folder / "0123456789abcdef.asked").write_text(SECRET)
        forget(store, folder, subject_of(SECRET))
    assert holding(folder, SECRET) == []
    assert stored(folder) == [fact for fact in facts if SECRET not in fact.values.name]
    assert not [path.name for path in folder.iterdir() if ".new" in path.name or ".asked" in path.name]


def test_a_new_segment_contains_nothing_of_a_log_that_was_left(folder: Path) -> None:
    """A log whose segment is gone adds nothing to a segment of the same name."""
    folder.mkdir(mode=0o700)
    path = folder / "0000000001.open"
    with closing(segment.OpenSegment(path)) as killed:
        killed.write([question(0, SECRET)], progress_of(1))
        written = path.with_name(f"{path.name}-wal").read_bytes()
    path.unlink()
    path.with_name(f"{path.name}-wal").write_bytes(written)
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, [question(1, "a.example")])
    assert [fact.values.name for fact in stored(folder)] == ["a.example"]


def test_a_request_is_made_while_another_one_is_fulfilled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is removed before it is whole is written again."""
    folder.mkdir()
    rename, removed = Path.rename, []

    def removes_once(path: Path, target: Path) -> Path:
        if not removed:
            removed.append(path)
            path.unlink()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", removes_once)
    request = ask_to_forget(folder, subject_of(SECRET))
    assert [*folder.iterdir()] == [request]


def test_a_file_with_another_name_is_no_segment(folder: Path) -> None:
    """A file that a user has put into the folder stays as it is, and stops no request."""
    with closing(FactStore(folder, FakeClock(wall=BEGIN / 1e9))) as store:
        fill(store, [question(number, SECRET) for number in range(SMALL + 1)])
        (folder / "copy.segment").write_text("x")
        forget(store, folder, subject_of(SECRET))
    assert [path.name for path in folder.glob("*.segment")] == ["copy.segment"]
