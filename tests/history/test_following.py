"""A reader follows the segments, also the open one, without a gap, and leaves out what is excluded.

Tests of dnstrail.history.following.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from builders.facts import BEGIN, CURL, RELATIONS, SECOND, TO_WEB, fact_of, locked, progress_of, stage_of
from dnstrail.captured import Process
from dnstrail.history import following as module
from dnstrail.history import segment as segments
from dnstrail.history.fact import StageFact
from dnstrail.history.following import SegmentSpool, SpooledAnswer, SpooledUse, SpoolPosition, UseContent
from dnstrail.history.segment_files import SegmentFile
from dnstrail.history.subjects import Subjects, subjects_of
from dnstrail_history.store import store as stores
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

SMALL = 4  # transactions of a segment


class Following:
    """A store, and a reader behind it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(segments, "MOST_TRANSACTIONS", SMALL)
        monkeypatch.setattr(stores, "MOST_TRANSACTIONS", SMALL)
        self.folder = folder
        self.clock = FakeClock(BEGIN / SECOND)
        self.store = FactStore(folder, self.clock)
        self.number = 0
        self.dropped = 0
        self.uses: list[SpooledUse] = []
        self.follow()

    def follow(self, *excluded: str, position: SpoolPosition | None = None) -> None:
        """Begin to read."""
        self.spool = SegmentSpool(self.folder, subjects_of(excluded) if excluded else None)
        self.position = position or SpoolPosition()

    def begin_anew(self) -> None:
        """Let the store begin in a new folder, with the path of this one."""
        self.store.close()
        shutil.rmtree(self.folder)
        self.store = FactStore(self.folder, self.clock)
        self.number = 0

    def keep(self, count: int, **values: object) -> None:
        """Store transactions with names of their own."""
        for _ in range(count):
            self.number += 1
            name = f"n{self.number}.example"
            stated = {"relations": ((name, 1, "192.0.2.1", 30),), "ended": BEGIN + self.number * SECOND} | values
            assert self.store.add(fact_of(self.number, **stated))
        assert self.store.commit(progress_of(self.number))
        self.finish()  # while the worker finishes a segment, a reader returns less

    def keep_stages(self, *stages: StageFact) -> None:
        """Store stages of connections."""
        for one in stages:
            assert self.store.add(one)
        assert self.store.commit(progress_of(self.number))

    def finish(self) -> None:
        """Let the store finish all full segments."""
        full = (self.number - 1) // SMALL
        wait_until(lambda: self.store.step() or len([*self.folder.glob("*.segment")]) >= full, "the full segments")

    def answers(self, most: int = 100) -> list[SpooledAnswer]:
        """Read to the end."""
        found: list[SpooledAnswer] = []
        while True:
            part = self.spool.read(self.position, most)
            self.position = part.position
            self.dropped += part.dropped
            self.uses += part.uses
            found += part.answers
            if part.is_end:
                return found

    def next_names(self, count: int, most: int) -> list[str]:
        """Read until so many answers are found: one that meets the worker as it finishes a segment comes later."""
        found: list[str] = []
        wait_until(lambda: found.extend(self.names(most)) or len(found) >= count, f"{count} answers")
        return found

    def names(self, most: int = 100) -> list[str]:
        """Read to the end, and return the names that were asked."""
        return [one.content.question for one in self.answers(most)]


@pytest.fixture
def following(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    """Return a store with small segments, and a reader."""
    found = Following(tmp_path / "history", monkeypatch)
    with closing(found.store):
        yield found


def names(*numbers: int) -> list[str]:
    """Return names by their numbers."""
    return [f"n{number}.example" for number in numbers]


@pytest.mark.parametrize("most", [1, 3, 4, 100])
def test_each_answer_is_read_once_while_segments_are_written(following: Following, most: int) -> None:
    """Open and full segments are read once, in their order, whatever is read at once."""
    following.keep(3)
    assert following.next_names(3, most) == names(1, 2, 3)
    following.keep(7)
    assert following.next_names(7, most) == names(*range(4, 11))
    following.finish()
    following.keep(2)
    assert following.next_names(2, most) == names(11, 12)
    assert following.names(most) == []
    assert following.dropped == 0
    following.follow()
    assert following.next_names(12, most) == names(*range(1, 13))


def test_an_answer_has_its_asker_and_its_chain(following: Following) -> None:
    """The content has question, program, container, image and relations; TTLs and doubt are those of the answer."""
    process = Process(9, "curl", "/usr/bin/curl", container_id="c0ffee", container_image="shop:1")
    following.keep(1, process=process, relations=RELATIONS, doubted=True)
    following.keep(1, process=None)
    following.keep(1, process=Process(8, "ping"), relations=())
    one, other = following.answers()
    assert (one.ended, one.ttls, one.doubted) == (BEGIN + SECOND, (60, 30), True)
    content = one.content
    assert (content.question, content.program, content.container, content.image) == (
        "a.example",
        "/usr/bin/curl",
        "c0ffee",
        "shop:1",
    )
    assert content.relations == (("a.example", 5, "b.example"), ("b.example", 1, "192.0.2.1"))
    assert (other.content.program, other.doubted) == ("", False)


def test_answers_with_one_content_share_it(following: Following) -> None:
    """The same question, asker and answer are one object, also over several reads, but for another segment."""
    following.keep(3, relations=RELATIONS)
    found = following.answers(most=1)
    for count in (1, 2):
        following.keep(count, relations=RELATIONS)
        found += following.answers()
    contents = [one.content for one in found]
    assert [contents[0] is one for one in contents] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        (("name=n2.example",), (1, 3, 4, 5, 6, 7, 8)),
        (("name=example",), ()),
        (("user=1000",), (1, 2, 4, 6, 8)),
        (("container=web",), (3, 8)),
        (("container=c0ff",), (3, 8)),
        (("container=deadbeefdead",), (1, 2, 3, 4, 8)),
        (("container=0123456789ab",), (1, 2, 3, 4, 6, 8)),
    ],
)
def test_what_is_excluded_never_leaves(following: Following, excluded: tuple[str, ...], left: tuple[int, ...]) -> None:
    """Names, users and containers are left out, and so are questions that may be of any of them."""
    following.follow(*excluded)
    following.keep(2)
    following.keep(1, process=Process(9, "curl", user_id=1000))
    following.keep(1)
    following.keep(1, hop=1, relations=(("n5.example", 1, "192.0.2.9", 5),))
    following.keep(1, process=Process(8, "curl", container_id="deadbeefdead"))  # its name is not known yet
    following.keep(1, process=None)
    following.keep(1, process=None, hop=2)
    following.finish()
    assert following.names() == names(*left)
    assert following.spool.counters["excluded"] == 8 - len(left)


USE = UseContent("/usr/bin/curl", "web", "", "a.example", "192.0.2.1")


@pytest.mark.parametrize(
    ("stage", "opened"),
    [
        (stage_of(1), None),
        (stage_of(1, flow=msgspec.structs.replace(TO_WEB, transport="udp")), BEGIN),
        (stage_of(1, "result", connected=True, lasted=SECOND), BEGIN - SECOND),
        (stage_of(1, "result", connected=False, error="ECONNREFUSED"), None),
        (stage_of(1, "named", lasted=2 * SECOND), BEGIN - 2 * SECOND),
        (stage_of(1, "end", lasted=9 * SECOND, why="closed"), BEGIN - 9 * SECOND),
        (stage_of(1, "end", name=None), None),
    ],
)
def test_a_connection_by_a_name_is_read(following: Following, stage: StageFact, opened: int | None) -> None:
    """A stage states who connected where, by which name and when, unless the connection failed, or may yet fail."""
    following.keep_stages(stage)
    assert following.answers() == []
    assert following.uses == ([] if opened is None else [SpooledUse(opened, USE)])


@pytest.mark.parametrize("most", [1, 3, 100])
def test_each_connection_is_read_once_after_its_answer(following: Following, most: int) -> None:
    """Of each segment the answers come first, and each connection once, whatever is read at once."""
    for number in range(3):
        following.keep_stages(*(stage_of(9 * number + one, "end", time=BEGIN + 9 * number + one) for one in range(2)))
        following.keep(3)
        following.finish()
    part = following.spool.read(following.position, most)
    assert (len(part.answers), len(part.uses)) == (min(most, 2), 2 if most > 2 else 0)
    assert len(following.next_names(9, most)) == 9
    wait_until(lambda: following.names(most) or len(following.uses) >= 6, "the connections")
    assert [one.opened - BEGIN for one in following.uses] == [0, 1, 9, 10, 18, 19]
    assert following.names(most) == []
    assert len(following.uses) == 6


@pytest.mark.parametrize("excluded", ["name=a.example", "user=0", "container=web", "container=c0ff"])
def test_an_excluded_connection_never_leaves(following: Following, excluded: str) -> None:
    """Connections by a name, of a user and of a container are left out."""
    following.follow(excluded)
    following.keep_stages(stage_of(1, "end"))
    assert following.names() == following.uses == []


def test_after_something_was_forgotten_no_connection_is_missed(following: Following) -> None:
    """A segment that is written anew has other numbers: its connections are read again."""
    following.keep(1)
    following.keep_stages(*(stage_of(one, "end", time=BEGIN + one, name=f"n{one}.example") for one in (1, 2)))
    assert following.names() == names(1)
    following.keep_stages(stage_of(3, "end", time=BEGIN + 3))
    forget(following, "n1.example")
    following.names()
    assert [one.opened - BEGIN for one in following.uses] == [1, 2, 2, 3]


@pytest.mark.parametrize(("excluded", "left"), [("user=1000", ()), ("container=web", ()), ("name=a.example", (1,))])
def test_an_unknown_process_may_be_excluded(following: Following, excluded: str, left: tuple[int, ...]) -> None:
    """While users or containers are excluded, what an unknown process asked stays on the host."""
    following.follow(excluded)
    following.keep(1, process=None)
    assert following.names() == names(*left)


def test_a_question_for_a_client_counts_once(following: Following) -> None:
    """What a forwarder asked for a client is the answer of the client."""
    following.keep(1)
    following.keep(1, hop=1, asked_for="s/0/1")
    assert following.names() == names(1)


def test_segments_that_are_gone_unread_are_counted(following: Following) -> None:
    """Segments that retention removed before they were read are counted; the next one is read from its begin."""
    following.keep(2)
    assert following.names() == names(1, 2)
    following.keep(13)
    following.finish()
    for number in (1, 2):
        (following.folder / f"{number:010d}.segment").unlink()
    assert following.names() == names(*range(9, 16))
    assert following.dropped == 2
    following.follow()
    assert following.names() == names(*range(9, 16))
    assert following.dropped == 2


def test_a_damaged_segment_is_counted_and_passed(following: Following) -> None:
    """A segment that is damaged, or was moved aside, counts as unread, and the next ones are read."""
    following.keep(13)
    following.finish()
    (following.folder / "0000000001.segment").write_bytes(b"damaged" * 1000)
    second = following.folder / "0000000002.segment"
    second.rename(second.with_name(second.name + ".damaged"))
    assert following.names() == names(*range(9, 14))
    assert following.dropped == 2
    assert following.names() == []
    assert following.dropped == 2


def test_after_something_was_forgotten_the_reader_goes_on(following: Following) -> None:
    """A segment that is written anew has other numbers: the reader finds its place, or reads it again and states it."""
    following.keep(2)
    assert following.names() == names(1, 2)
    following.keep(1)
    forget(following, "n1.example")
    assert following.names() == names(3)
    forget(following, "n3.example")
    following.keep(1)
    with capture_logs() as logs:
        assert following.names() == names(4)
    assert logs == []
    following.follow(position=SpoolPosition(1, 3, "s", 0, 3))
    with capture_logs() as logs:
        assert following.names() == names(2, 4)
    assert [line["event"] for line in logs] == ["segment_read_again"]


@pytest.mark.parametrize("before", [(), ("n1.example",)])
def test_a_segment_that_was_written_anew_has_its_own_texts(following: Following, before: tuple[str, ...]) -> None:
    """A file system gives a new file the number of a removed one: the texts of that one are none of it."""
    following.keep(4)
    for name in before:
        forget(following, name)
    first = following.spool.read(following.position, 2)
    assert len(first.answers) == 2
    following.position = first.position
    [path], old = following.folder.glob("0000000001.*[nt]"), following.folder / "old"
    os.link(path, old)
    forget(following, "n2.example" if before else "n1.example")
    new = following.folder / "0000000001.segment"
    old.write_bytes(new.read_bytes())
    old.replace(new)
    assert following.names() == (names(4) if before else names(3, 4))


def forget(following: Following, name: str) -> None:
    """Let the store forget a name."""
    request = ask_to_forget(following.folder, Subjects(names=frozenset({name})))
    following.clock.advance(2)
    wait_until(lambda: following.store.step() or not request.exists(), "the request")


@pytest.mark.parametrize("count", [1, SMALL + 1])
def test_a_history_that_is_begun_anew_is_read_from_its_begin(following: Following, count: int) -> None:
    """Another history has lower numbers: all of it is read once, and nothing counts as dropped; one line states it."""
    following.keep(2 * SMALL + 1)
    assert len(following.next_names(2 * SMALL + 1, 100)) == following.number
    following.begin_anew()
    assert following.names() == []
    following.keep(count)
    with capture_logs() as logs:
        assert following.next_names(count, 100) == names(*range(1, count + 1))
    following.keep(2 * SMALL)
    assert len(following.next_names(2 * SMALL, 100)) == 2 * SMALL
    assert (following.names(), following.dropped) == ([], 0)
    assert [(line["event"], line["last"]) for line in logs] == [("history_begun_anew", 3)]


def test_a_segment_that_is_made_again_is_no_new_history(following: Following) -> None:
    """An empty segment that the worker makes again, and a file that one listing misses, let nothing be read again."""
    following.keep(SMALL)
    assert following.next_names(SMALL, 100) == names(1, 2, 3, 4)
    following.follow(position=SpoolPosition(2))
    assert [following.names() for _ in range(3)] == [[]] * 3
    following.keep(1)
    assert following.names() == names(5)
    path = following.folder / "0000000002.open"
    for _ in range(3):
        path.rename(following.folder / "kept")
        assert following.names() == []
        (following.folder / "kept").rename(path)
        assert following.names() == []


def test_an_answer_with_too_many_relations_is_left_out(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer beyond the bound is not read, and counts as excluded."""
    monkeypatch.setattr(module, "MOST_PACKED", 2)
    following.keep(1, relations=RELATIONS, process=CURL)
    following.keep(1)
    assert following.names() == names(2)
    assert following.spool.counters["excluded"] == 1


def test_a_segment_that_the_worker_finishes_is_read_later(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker finishes a segment, or has just renamed it, nothing is read, and nothing counts as dropped."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    following.keep(3)
    following.store._close_segment()
    path = following.folder / "0000000001.open"
    with locked(path):
        assert following.names() == []
    monkeypatch.setattr(module, "segment_files", lambda _: [SegmentFile(1, path, ".open", is_aside=False)])
    path.rename(following.folder / "kept")
    assert following.names() == []
    (following.folder / "kept").rename(path)
    assert following.names() == names(1, 2, 3)
    assert following.dropped == 0


def test_the_worker_can_finish_a_segment_that_was_read(following: Following) -> None:
    """The reader keeps no file open: a segment is finished at the first attempt."""
    following.keep(SMALL)
    following.names()
    following.keep(1)
    following.finish()
    wait_until(lambda: following.store.step() or following.store.counters["finished"], "the note of the thread")
    assert following.store.counters["finished"] == 1
    assert following.names() == names(5)
