"""Batches and turns: nothing that was lost on the way goes unseen: DESIGN 3."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.captured import Captured, Flow, Process
from dnstrail.errors import BadMessage
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
    """A batch or a turn comes through the wire as it was, whatever is in it."""
    assert decode(encode(message), type(message)) == message


@given(st.one_of(st.binary(max_size=100), plain.map(msgpack.packb), st.lists(plain).map(msgpack.packb)))
def test_any_body_is_a_message_or_a_bad_one(body: bytes) -> None:
    """Any body at all decodes or is BadMessage, and nothing else."""
    for kind in (Batch, Turn):
        with suppress(BadMessage):
            assert isinstance(decode(body, kind), kind)


@given(st.one_of(batches, turns).map(encode), st.data())
def test_a_damaged_body_is_a_message_or_a_bad_one(body: bytes, data: st.DataObject) -> None:
    """A body with a byte changed, or cut short, decodes or is BadMessage, and nothing else."""
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
    """A body that is no turn is BadMessage, be it no MessagePack or MessagePack of something else."""
    with pytest.raises(BadMessage):
        decode(body, Turn)
    with pytest.raises(BadMessage):
        decode(body, Batch)


def test_fields_of_a_later_version_are_passed_over() -> None:
    """A longer array is read as far as it is known, and one without the newer fields has their defaults."""
    older = msgpack.packb(["s", 7, {DNS: 3}, True, 9])
    newer = msgpack.packb(["s", 7, {DNS: 3}, True, 9, False, {}, None, {}, "", "", "more"])
    assert decode(older, Turn) == decode(newer, Turn) == Turn("s", 7, {DNS: 3}, live=True, now=9)


def test_messagepack_is_unpacked_to_plain_values() -> None:
    """Whatever a stranger packs comes as plain values, text as text and bytes as bytes."""
    assert unpack(msgpack.packb({"key": [1, None, b"\xff", "x"]})) == {"key": [1, None, b"\xff", "x"]}


class Followed(TurnFollower):
    """Turns that are told in a few words: "D0" is batch 0 of DNS events, "E0" of exec events, "|" ends the turn.

    `size` is how many events a batch has, of a probe that numbers them.
    """

    def __init__(
        self, said: str, *, start: str = "s", topics: tuple[str, ...] = (DNS, EXEC), size: int | None = None
    ) -> None:
        super().__init__(topics)
        self._size = size
        self.say(said, start)

    def say(self, said: str, start: str = "s") -> Followed:
        """Send all; what stands in parentheses is lost on the way."""
        turn, last, published = 0, {}, {}
        for word in said.split():
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
        """What is known of the first turns: whole, lost, or not yet ended."""
        return "".join({True: "w", False: "l", None: "."}[self.reached((start, turn))] for turn in range(count))


# What is sent (lost in parentheses), what is known of turns 0, 1, ... then, and what was counted as lost.
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


@pytest.mark.parametrize(("said", "known", "lost"), SENT.values(), ids=SENT)
def test_what_is_known_of_turns(said: str, known: str, lost: dict[str, int]) -> None:
    """A turn is whole once its end and all before it was seen, lost as soon as that is known, else not yet ended."""
    followed = Followed(said)
    assert followed.shown(len(known)) == known
    assert dict(followed.lost) == lost


@pytest.mark.parametrize(("said", "known", "lost"), SENT.values(), ids=SENT)
def test_events_that_are_numbered_are_counted(said: str, known: str, lost: dict[str, int]) -> None:
    """Of a probe that numbers its events each lost one is counted, and the turns are known as without."""
    followed = Followed(said, size=7)
    assert followed.shown(len(known)) == known
    assert dict(followed.lost) == {topic: count * (1 if topic == TURN else 7) for topic, count in lost.items()}
    assert followed.missed("s") == sum(count for topic, count in followed.lost.items() if topic != TURN)


def test_a_loss_is_known_with_the_next_batch_of_any_topic() -> None:
    """What was lost of one topic is known before the events of another one are looked at."""
    followed = Followed("D0 E0 | (D1) (|) (D2) E1", size=3)
    assert (dict(followed.lost), followed.missed("s"), followed.missed("other")) == ({DNS: 6}, 6, 0)


def test_an_unknown_start_is_never_reached() -> None:
    """A mark of a start id that never spoke answers at once."""
    assert Followed("D0 |").reached(("other", 0)) is False


def test_other_topics_are_not_missed() -> None:
    """A subscriber to one topic does not miss the batches of another."""
    followed = Followed("D0 (E0) | (E1) D1 |", topics=(DNS,))
    assert (followed.shown(3), dict(followed.lost)) == ("ww.", {})


def test_each_probe_has_turns_of_its_own() -> None:
    """Several probes, and several starts of one, are followed apart; the loss of one is not another's."""
    followed = Followed("D0 | D1 | |", start="a").say("D0 | (D1) |", start="b").say("D0", start="c")
    assert [followed.shown(4, start) for start in "abc"] == ["www.", "wl..", "...."]
    assert [(turn.start, turn.turn) for turn in followed.probes] == [("a", 2), ("b", 1)]
    assert followed.lost == {DNS: 1}


def test_the_last_turn_of_each_probe_is_kept() -> None:
    """What a probe said last is found under `probes`, with its clock and counters."""
    turn = Turn("s", 3, {}, live=False, now=5, ended=True, counters={"dropped": 2})
    followed = TurnFollower((DNS,))
    followed.turn(Turn("s", 2, {}, live=False, now=4))
    followed.turn(turn)
    assert followed.probes == [turn]


def test_memory_is_bounded_however_many_probes_come() -> None:
    """Of many starts the ones that spoke last are remembered, and a live one is never forgotten."""
    followed = Followed("D0 |", start="live")
    for number in range(1000):
        followed.say("D0 | (D1) |", start=f"s{number}")
        followed.turn(Turn("live", number + 1, {DNS: 0}, live=True, now=0))
    assert len(followed.probes) <= 64
    assert followed.shown(3, "live") == "www"
    assert followed.shown(3, "s999") == "wl."
    assert followed.shown(3, "s0") == "lll"


def test_memory_is_bounded_however_much_is_lost() -> None:
    """Endless gaps of one start are remembered up to a bound, the latest of them surely."""
    followed = Followed("|")
    for turn in range(2, 20_000, 2):
        followed.turn(Turn("s", turn, {}, live=True, now=0))
    assert [followed.reached(("s", turn)) for turn in (19_995, 19_996, 19_997, 19_998, 19_999)] == [
        *(False, True, False, True),
        None,
    ]
    assert len(followed._starts["s"].broken) <= 4096
    assert followed.lost == {TURN: 9999}
    assert not any(followed.reached(("s", turn)) for turn in range(1, 20_000, 2)), "what was lost never counts as seen"


def test_what_is_forgotten_of_endless_losses_never_counts_as_seen() -> None:
    """A turn in which a batch was lost stays lost, also when more have been since than are remembered."""
    followed = Followed("|")
    for turn in range(1, 10_000):
        followed.turn(Turn("s", turn, {DNS: turn}, live=True, now=0))
    assert not any(followed.reached(("s", turn)) for turn in range(1, 10_000))


def test_a_gap_of_any_length_is_lost_as_a_whole() -> None:
    """Of a gap longer than what is remembered no turn counts as seen, and it takes no time to note."""
    followed = Followed("|")
    followed.turn(Turn("s", 2**52, {}, live=True, now=0))
    for turn in (1, 50, 2**51, 2**52 - 5000, 2**52 - 1):
        assert followed.reached(("s", turn)) is False, turn
    assert followed.reached(("s", 2**52)) is True
    assert followed.lost == {TURN: 2**52 - 1}
