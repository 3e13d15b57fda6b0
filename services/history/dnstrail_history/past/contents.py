"""The answers of all segments that state the same relations, and those of them that a past image applies."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from dnstrail.history.rows import pack_flags
from dnstrail.history.sums import ROWS
from dnstrail.image.answer import Edge
from dnstrail.image.binding.scope import SOON
from dnstrail.image.bounds import SECOND
from dnstrail.image.record import MAX_SIGHTINGS
from dnstrail_history.past.given_answers import GivenAnswer
from dnstrail_history.past.open_index import StatedAnswer
from dnstrail_history.past.segment_readers import SegmentReader

_FEW: Final = 32  # answers of a record that a lookup without ended relations reads one by one
_ROWS_AT_ONCE: Final = (4, 64)  # answers of a place that are read to find the decisive ones, at each attempt
_NEVER: Final = -(1 << 62)


class ReadAnswer(NamedTuple):
    """An answer that was read, with the number of its segment, its relations in their order, and how often it stands.

    `given` stands for more than one if they are not read one by one.
    """

    segment: int
    given: GivenAnswer
    edges: tuple[Edge, ...]
    times: int = 1


class StatedPlace(NamedTuple):
    """An answer in a segment, with its relations in their order, and its question if that is known."""

    segment: SegmentReader
    stated: StatedAnswer
    edges: tuple[Edge, ...]
    question: str | None


class Content:
    """The answers that state the same relations, in any order. `places` contains them by segment, newest first.

    `read` are those that the image held, once they were read.
    """

    def __init__(self) -> None:
        self.places: dict[SegmentReader, list[StatedPlace]] = {}
        self.read: list[ReadAnswer] | None = None

    def read_until(self, at: int, lag: int, is_over: Callable[[], bool], *, whole: bool) -> int:
        """Read the answers until a time, and return the number of their relations.

        The image held a record for `lag` ns past its end. Those of a whole record count also where none of its
        relations can have been held by them. `is_over` ends the reading early.
        """
        self.read = []
        if all(one.stated.ends * SECOND + lag <= at for places in self.places.values() for one in places):
            return 0
        parts: list[list[ReadAnswer]] = []
        count, most = 0, ROWS if whole else _FEW
        longest = max(one.stated.longest for places in self.places.values() for one in places)
        since = _NEVER if whole else at - lag - (longest + 1) * SECOND
        for places in self.places.values():
            most_now = most if count < most else 0
            part = [one for place in places if not is_over() for one in _read(place, since, at, most_now)]
            count += len(part)
            if part:
                parts.append(part)
        end = 0
        for part in reversed(parts):
            if end + lag <= min(one.given.ended for one in part):
                self.read.clear()  # the image had removed the record
            self.read += part
            end = max(end, *(one.given.end for one in part))
        if end + lag <= at:
            self.read.clear()
        return sum(len(one.edges) for part in parts for one in part)

    def read_decisive(self, at: int, lag: int, is_over: Callable[[], bool]) -> int | None:
        """Read the answers that decide which relations are live, and since when; return the number of their relations.

        Return None, and read nothing, if all answers may be needed: the segments do not state that one question was
        given them in the order of their ends, too many were given, or `is_over` returns true.
        """
        wanted: dict[SegmentReader, list[StatedPlace]] = {}
        is_live = False
        for segment, places in self.places.items():
            # The last answer is wanted also if it has ended.
            lasting = [one for one in places if one.stated.ends * SECOND + lag > at]
            if some := lasting if is_live else places:
                wanted[segment] = some
            is_live = is_live or bool(lasting)
        if not is_live:
            self.read = []
            return 0
        questions = {one.question for places in wanted.values() for one in places}
        if None in questions or len(questions) > 1:
            return None
        for most in _ROWS_AT_ONCE:
            found = _decisive(wanted, at, lag, most, is_over)
            if found is not None:
                self.read = found
                return sum(len(one.edges) for one in found)
        return None

    def followed(self, times: Sequence[int], known: Sequence[ReadAnswer]) -> Iterator[ReadAnswer]:
        """Yield the answers within SOON before some times; of known ones only if some of them are in a sum."""
        since, until = times[0] - SOON, times[-1]
        if all(one.given.number for one in known):
            until = min([until, *(one.given.ended - 1 for one in known)])
        for segment, places in self.places.items():
            if segment.first <= until and segment.last_ended >= since:
                for place in places:
                    for one in segment.between(place.stated.answer, since, until):
                        following = bisect_left(times, one.ended)
                        if following < len(times) and times[following] - one.ended <= SOON:
                            yield ReadAnswer(segment.number, one, place.edges)


def _decisive(
    wanted: Mapping[SegmentReader, Sequence[StatedPlace]], at: int, lag: int, most: int, is_over: Callable[[], bool]
) -> list[ReadAnswer] | None:
    """Return the last answer, and before it the last ones by which each relation is live with and without `lag`.

    Return None if those cannot be told from the last `most` answers of each place.
    """
    strict, lasting = set[Edge](), set[Edge]()
    found: list[ReadAnswer] = []
    count, earliest = 0, at
    unread = [segment.last_ended for segment in wanted]  # no answer that was not read ended later
    # No relation of a segment, or of an earlier one, ends later.
    ends = [max(one.stated.ends for one in places) * SECOND for places in wanted.values()]
    latest = [*accumulate(reversed(ends), max)][::-1]
    for number, (segment, places) in enumerate(wanted.items()):
        parts = [
            (one, segment.last_undoubted(one.stated.answer, one.question, at, most)) for one in places if not is_over()
        ]
        if len(parts) < len(places):
            return None
        rows = [(given, one.edges) for one, part in parts for given in part]
        rows.sort(key=_number_of, reverse=True)
        cut = [(one, part[-1].ended) for one, part in parts if len(part) == most]
        unread[number] = max([ended for _, ended in cut], default=_NEVER)
        for place, (given, edges) in enumerate(rows, 1):
            if given.ended > earliest or len(given.lives) != len(edges):
                return None
            earliest = given.ended
            count += 1
            lives = [*zip(edges, given.lives, strict=True)]
            new_strict = {edge for edge, life in lives if given.ended + life > at} - strict
            new_lasting = {edge for edge, life in lives if given.ended + life + lag > at} - lasting
            if new_strict or new_lasting or not found:
                if count > MAX_SIGHTINGS:
                    return None
                found.append(ReadAnswer(segment.number, given, edges))
                strict |= new_strict
                lasting |= new_lasting
                if len(strict) == len(edges) or (len(lasting) == len(edges) and latest[number] <= at):
                    others = [*unread, *(other.ended for other, _ in rows[place:])]
                    return found if max(others) <= earliest else None
        if any(ended + one.stated.longest * SECOND + lag > at for one, ended in cut):
            return None
    return found if lasting else []


def _number_of(row: tuple[GivenAnswer, tuple[Edge, ...]]) -> int:
    return row[0].number


def _read(place: StatedPlace, since: int, until: int, most: int) -> Iterator[ReadAnswer]:
    """Yield the answers of a place within a time: the last ones one by one, and the sums of these and all before."""
    segment, stated, edges, _ = place
    answer = stated.answer
    given = [one for one in segment.last(answer, until, most) if one.ended > since] if most else []
    yield from (ReadAnswer(segment.number, one, edges) for one in given if len(one.lives) == len(edges))
    if len(given) < most:
        return
    for question, total in segment.sums(answer, until):
        known = sum(one.question == question and one.doubted == total.doubted for one in given)
        if total.times > known and len(total.ends) == len(edges):
            lives = tuple(end - total.first for end in total.ends)
            flags = pack_flags(True, None, total.doubted, None)
            first = GivenAnswer(0, total.first, question, lives, flags)
            yield ReadAnswer(segment.number, first, edges, total.times - known)
