"""Batches and turns: every loss on the bus is detected."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from unittest import mock

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dnstrail.captured import Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.protocol import turn_follower
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, encode, unpack
from dnstrail.protocol.turn_follower import TurnFollower

DNS, EXEC = "net_packet_dns", "sched_process_exec"

small = st.integers(0, 2**53 - 1)
stamps = st.integers(0, 2**63 - 1)
plain = st.recursive(
    st.none() | st.booleans() | small | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
flows = st.builds(
    Flow, st.binary(max_size=16), st.integers(0, 65535), st.binary(max_size=16), st.integers(0, 65535), st.text()
)
processes = st.builds(Process, small, st.text(), st.text(), small, small, st.text())
events = st.builds(
    Captured,
    stamps,
    st.binary(max_size=50),
    st.none() | flows,
    st.none() | processes,
    st.dictionaries(st.text(), plain, max_size=3),
)
numbers = st.integers(0, 2**53 - 1)
counts = st.dictionaries(st.text(), numbers, max_size=4)
batches = st.builds(Batch, st.text(), numbers, numbers, st.lists(events, max_size=4), st.none() | counts)
turns = st.builds(Turn, st.text(), numbers, counts, st.booleans(), stamps, st.booleans(), counts, st.none() | counts)


@given(st.one_of(batches, turns))
def test_what_is_encoded_is_decoded(message: Batch | Turn) -> None:
    """A batch or a turn is decoded as it was encoded, whatever it contains."""
    assert decode(encode(message), type(message)) == message


@given(st.one_of(st.binary(max_size=100), plain.map(msgpack.packb), st.lists(plain).map(msgpack.packb)))
def test_any_body_is_a_message_or_a_bad_one(body: bytes) -> None:
    """Any body is decoded or raises BadMessage, and nothing else."""
    for kind in (Batch, Turn):
        with suppress(BadMessage):
            assert isinstance(decode(body, kind), kind)


@given(st.one_of(batches, turns).map(encode), st.data())
def test_a_damaged_body_is_a_message_or_a_bad_one(body: bytes, data: st.DataObject) -> None:
    """A body with a changed byte, or a part of a body, is decoded or raises BadMessage, and nothing else."""
    at = data.draw(st.integers(0, len(body) - 1))
    for mutant in (body[:at], body[:at] + data.draw(st.binary(min_size=1, max_size=1)) + body[at + 1 :]):
        for kind in (Batch, Turn):
            with suppress(BadMessage):
                assert isinstance(decode(mutant, kind), kind)


BAD = {
    "nothing": b"",
    "bytes behind": msgpack.packb(["s", 0, {}, True, 0]) + b"\x00",
    "a number": b"\x01",
    "a map": msgpack.packb({"start": "s"}),
    "too few": msgpack.packb(["s", 0]),
    "a start that is no text": msgpack.packb([1, 0, {}, True, 0]),
    "a start of bytes": msgpack.packb([b"s", 0, {}, True, 0]),
    "a turn that is no number": msgpack.packb(["s", "0", {}, True, 0]),
    "a turn that is a float": msgpack.packb(["s", 0.5, {}, True, 0]),
    "a turn below 0": msgpack.packb(["s", -1, {}, True, 0]),
    "a turn past all counting": msgpack.packb(["s", 2**53, {}, True, 0]),
    "a sequence past all counting": msgpack.packb(["s", 0, {DNS: 2**53}, True, 0]),
    "no map of topics": msgpack.packb(["s", 0, [], True, 0]),
    "a map with a key that is no text": msgpack.packb(["s", 0, {1: 1}, True, 0]),
    "nested deeper than can be": b"\x91" * 5000,
    "an array that is not there": b"\xdd\xff\xff\xff\xff",
    "text that is no UTF-8": b"\x95\xa1\xff\x00\x80\xc3\x00",
    "a bad time stamp": b"\xd7\xff" + b"\xff" * 8,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_bodies_are_refused(body: bytes) -> None:
    """A body that is no MessagePack, or MessagePack of another shape, raises BadMessage."""
    with pytest.raises(BadMessage):
        decode(body, Turn)
    with pytest.raises(BadMessage):
        decode(body, Batch)


def test_fields_of_later_versions_are_ignored() -> None:
    """Additional elements of an array are ignored, and missing ones have their defaults."""
    older = msgpack.packb(["s", 7, {DNS: 3}, True, 9])
    newer = msgpack.packb([*msgpack.unpackb(encode(decode(older, Turn))), "more"])
    assert decode(older, Turn) == decode(newer, Turn) == Turn("s", 7, {DNS: 3}, live=True, now=9)


def test_messagepack_is_unpacked_to_plain_values() -> None:
    """MessagePack is unpacked to plain values: text to str, binary to bytes."""
    assert unpack(msgpack.packb({"key": [1, None, b"\xff", "x"]})) == {"key": [1, None, b"\xff", "x"]}


class Followed(TurnFollower):
    """A follower that receives a script: "D0" is batch 0 of DNS events, "E0" of exec events, "|" ends the turn.

    `size` is the number of events in a batch, of a probe that counts them.
    """

    def __init__(
        self, script: str, *, start: str = "s", topics: tuple[str, ...] = (DNS, EXEC), size: int | None = None
    ) -> None:
        super().__init__(topics)
        self._size = size
        self.send(script, start)

    def send(self, script: str, start: str = "s") -> Followed:
        """Send a script; what stands in parentheses is lost on the bus."""
        turn, last, published = 0, {}, {}
        for word in script.split():
            lost, what = word.startswith("("), word.strip("()")
            if what == "|":
                if not lost:
                    numbers = None if self._size is None else dict(published)
                    self.turn(Turn(start, turn, dict(last), live=True, now=turn, published=numbers))
                turn += 1
                continue
            topic, sequence = DNS if what[0] == "D" else EXEC, int(what[1:])
            last[topic] = sequence
            numbers = None if self._size is None else dict(published)
            published[topic] = published.get(topic, 0) + (self._size or 0)
            if not lost:
                self.batch(topic, Batch(start, turn, sequence, [Captured(0)] * (self._size or 0), numbers))
        return self

    def shown(self, count: int, start: str = "s") -> str:
        """Return the state of the first turns: w(hole), l(ost), or "." for not yet ended."""
        return "".join({True: "w", False: "l", None: "."}[self.reached((start, turn))] for turn in range(count))


# The script (lost parts in parentheses), the states of turns 0, 1, ... after it, and the counted losses.
SENT = {
    "nothing yet": ("", "lll", {}),
    "a batch of an open turn": ("D0", "...", {}),
    "one turn": ("D0 |", "w..", {}),
    "an idle turn": ("|", "w..", {}),
    "several turns": ("D0 | D1 E0 | | E1 |", "wwww.", {}),
    "a turn that is open": ("D0 | D1 E0", "w..", {}),
    "several batches of one turn": ("D0 D1 D2 | D3", "w..", {}),
    "a batch lost, seen by the next": ("D0 | (D1) D2", "wl.", {DNS: 1}),
    "a batch lost, seen by the next, and its turn ends": ("D0 | (D1) D2 | |", "wlw.", {DNS: 1}),
    "the last batch of a turn lost": ("D0 | D1 (D2) | D3 |", "wlw.", {DNS: 1}),
    "the only batch of a turn lost": ("D0 | (D1) | D2 |", "wlw.", {DNS: 1}),
    "a whole topic lost": ("D0 | (E0) (E1) D1 | |", "wlw.", {EXEC: 2}),
    "the first batch of all lost": ("| (D0) | |", "wlw.", {DNS: 1}),
    "many batches lost": ("D0 | (D1) (D2) (D3) D4 (D5) | |", "wlw.", {DNS: 4}),
    "an end of a turn lost": ("D0 | D1 (|) D2 |", "wlw.", {TURN: 1}),
    "several ends lost": ("D0 | (|) (|) (|) |", "wlllw.", {TURN: 3}),
    "turns lost as a whole": ("D0 | (D1) (|) (E0) (|) D2 |", "wlll.", {DNS: 1, EXEC: 1, TURN: 2}),
    "an end that did not come yet": ("D0 | D1 (|) D2", "w...", {}),
    "a lost turn is seen with the next end at the latest": ("D0 | (D1) (|) |", "wll.", {DNS: 1, TURN: 1}),
    "joined after the first turn": ("(D0) (|) | D1 |", "llw.", {}),
    "joined in the middle of a turn": ("(D0) (|) (D1) D2 | D3 |", "llw.", {}),
    "joined in the middle, the rest comes later": ("(D0) (|) (D1) D2", ".l.", {}),
    "joined behind the last batch of a turn": ("(D0) | D1 |", "lw.", {}),
    "joined before anything was sent": ("(|) (|) | D0 |", "llww.", {}),
    "joined, then a loss": ("(D0) (|) | (D1) | D2 |", "lllw.", {DNS: 1}),
}


@pytest.mark.parametrize(("script", "known", "lost"), SENT.values(), ids=SENT)
def test_what_is_known_of_turns(script: str, known: str, lost: dict[str, int]) -> None:
    """A turn is whole once its end and all of its batches are received, and lost once a gap shows it."""
    followed = Followed(script)
    assert followed.shown(len(known)) == known
    assert dict(followed.lost) == lost


@pytest.mark.parametrize(("script", "known", "lost"), SENT.values(), ids=SENT)
def test_events_that_are_numbered_are_counted(script: str, known: str, lost: dict[str, int]) -> None:
    """If the probe counts its events, each lost event is counted; the states of the turns are the same."""
    followed = Followed(script, size=7)
    assert followed.shown(len(known)) == known
    assert dict(followed.lost) == {topic: count * (1 if topic == TURN else 7) for topic, count in lost.items()}
    assert followed.missed("s") == sum(count for topic, count in followed.lost.items() if topic != TURN)


@pytest.mark.parametrize("size", [None, 7], ids=["of a probe without counts", "counted"])
def test_events_before_the_first_message_are_lost_if_all_of_the_start_was_expected(size: int | None) -> None:
    """A start that was to be received from its first event loses what came before its first message, once."""
    joined = Followed("", size=size)
    joined.turn = partial(joined.turn, from_start=True)
    joined.send("(D0) (E0) (|) (D1) D2 | D3 | (D4) | |")
    before = {} if size is None else {DNS: 2 * size, EXEC: size}
    assert dict(joined.lost) == {**before, DNS: before.get(DNS, 0) + (size or 1)}
    assert joined.missed("s") == joined.lost.total()


def test_a_loss_is_known_with_the_next_batch_of_any_topic() -> None:
    """A batch of any topic reveals the losses of all topics before its own events are handled."""
    followed = Followed("D0 E0 | (D1) (|) (D2) E1", size=3)
    assert (dict(followed.lost), followed.missed("s"), followed.missed("other")) == ({DNS: 6}, 6, 0)


def test_an_unknown_start_is_never_reached() -> None:
    """A mark of an unknown start id is out of reach at once."""
    assert Followed("D0 |").reached(("other", 0)) is False


def test_topics_without_a_subscription_are_not_missed() -> None:
    """A subscriber to one topic does not count the batches of another as lost."""
    followed = Followed("D0 (E0) | (E1) D1 |", topics=(DNS,))
    assert (followed.shown(3), dict(followed.lost)) == ("ww.", {})


def test_each_probe_has_turns_of_its_own() -> None:
    """Each start of each probe is followed by itself: a loss affects its own turns alone."""
    followed = Followed("D0 | D1 | |", start="a").send("D0 | (D1) |", start="b").send("D0", start="c")
    assert [followed.shown(4, start) for start in "abc"] == ["www.", "wl..", "...."]
    assert [(turn.start, turn.turn) for turn in followed.probes] == [("a", 2), ("b", 1)]
    assert followed.lost == {DNS: 1}


def test_the_last_turn_of_each_probe_is_kept() -> None:
    """`probes` contains the last turn of each probe, with its clock and counters."""
    turn = Turn("s", 3, {}, live=False, now=5, ended=True, counters={"dropped": 2})
    followed = TurnFollower((DNS,))
    followed.turn(Turn("s", 2, {}, live=False, now=4))
    followed.turn(turn)
    assert followed.probes == [turn]


def test_the_difference_of_a_probe_is_that_of_its_last_turn() -> None:
    """The difference to wall time is known for each probe, and is 0 before the first turn."""
    followed = TurnFollower((DNS,))
    assert followed.difference("s") == 0
    for difference in (7, -9):
        followed.turn(Turn("s", 2, {}, live=True, now=4, difference=difference))
        assert (followed.difference("s"), followed.difference("other")) == (difference, 0)


def test_a_start_that_is_forgotten_is_unknown() -> None:
    """Nothing of a start that gave way is reached or kept; the other starts go on."""
    followed = Followed("D0 |", start="live")
    followed.send("D0 | (D1) |", start="s")
    followed.forget("s")
    followed.forget("unknown")
    assert [probe.start for probe in followed.probes] == ["live"]
    assert (followed.shown(3, "live"), followed.shown(3, "s")) == ("w..", "lll")


def test_a_stream_is_live_while_one_followed_start_is() -> None:
    """A turn of a file does not end it; the end of the only live start does, once it is forgotten."""
    followed = TurnFollower((DNS,))
    seen = []
    for start, live in (("file", False), ("live", True), ("other file", False)):
        followed.turn(Turn(start, 0, {}, live=live, now=0))
        seen.append(followed.live)
    assert seen == [False, True, True]
    followed.forget("live")
    assert not followed.live


def test_memory_is_bounded_however_much_is_lost() -> None:
    """The gaps of one start are kept up to a bound, the latest ones first."""
    followed = Followed("|")
    for turn in range(2, 20_000, 2):
        followed.turn(Turn("s", turn, {}, live=True, now=0))
    assert [followed.reached(("s", turn)) for turn in (19_995, 19_996, 19_997, 19_998, 19_999)] == [
        *(False, True, False, True),
        None,
    ]
    assert len(followed._starts["s"].broken) <= 4096
    assert followed.lost == {TURN: 9999}
    assert not any(followed.reached(("s", turn)) for turn in range(1, 20_000, 2)), "a lost turn is never received"


def test_a_gap_that_was_evicted_never_counts_as_received() -> None:
    """A turn with a lost batch stays lost, even after its gap was evicted."""
    followed = Followed("|")
    for turn in range(1, 10_000):
        followed.turn(Turn("s", turn, {DNS: turn}, live=True, now=0))
    assert not any(followed.reached(("s", turn)) for turn in range(1, 10_000))


def test_a_gap_of_any_length_is_lost_as_a_whole() -> None:
    """No turn of a gap beyond the bound counts as received, and noting such a gap takes no time."""
    followed = Followed("|")
    followed.turn(Turn("s", 2**52, {}, live=True, now=0))
    for turn in (1, 50, 2**51, 2**52 - 5000, 2**52 - 1):
        assert followed.reached(("s", turn)) is False, turn
    assert followed.reached(("s", 2**52)) is True
    assert followed.lost == {TURN: 2**52 - 1}


def test_a_topic_that_is_followed_later_loses_nothing_from_before() -> None:
    """Events of a further topic count from the end of the turn at hand; losses of the others count throughout."""
    follower = TurnFollower((DNS,))
    follower.turn(Turn("start", 0, {DNS: 0, EXEC: 4}, live=True, now=0, published={DNS: 1, EXEC: 5}))
    follower.follow((DNS, EXEC))
    follower.turn(Turn("start", 1, {DNS: 1, EXEC: 6}, live=True, now=0, published={DNS: 3, EXEC: 7}))
    assert follower.lost == {DNS: 2}
    follower.turn(Turn("start", 2, {DNS: 1, EXEC: 7}, live=True, now=0, published={DNS: 3, EXEC: 9}))
    assert follower.lost == {DNS: 2, EXEC: 2}


few = st.dictionaries(st.sampled_from([DNS, EXEC]), st.integers(0, 3), max_size=2)
jumps = st.sampled_from([1, 1, 1, 1, 0, 2])  # from one turn to the next
numbered = st.builds(partial(Turn, "s"), jumps, few, st.just(True), st.just(0), published=st.none() | few)
some_batches = st.builds(
    partial(Batch, "s"), st.integers(0, 6), st.integers(0, 3), st.just([Captured(0)]), st.none() | few
)
topics = st.sampled_from([(DNS,), (DNS, EXEC), (EXEC,)])
streams = st.lists(
    st.none() | numbered | st.tuples(st.sampled_from([DNS, EXEC]), some_batches) | topics, min_size=3, max_size=25
)


@settings(max_examples=10 * settings.default.max_examples)
@given(streams)
def test_an_idle_turn_counts_like_any_other(stream: list[object]) -> None:
    """A turn that states the numbers of the turn before (None) changes the same as if all of them were compared."""

    def state() -> tuple[object, ...]:
        follower = TurnFollower((DNS,))
        last = Turn("s", -1, {}, live=True, now=0)
        for step in stream:
            match step:
                case None | Turn():
                    jump = 1 if step is None else step.turn
                    last = replace(step or last, turn=max(last.turn + jump, 0))
                    follower.turn(last)
                case (str(topic), Batch() as batch):
                    follower.batch(topic, batch)
                case _:
                    follower.follow(step)
        return follower.lost, follower.positions(), [follower.reached(("s", turn)) for turn in range(12)]

    known = state()
    with mock.patch.object(turn_follower, "_adds_nothing", return_value=False):
        assert state() == known
