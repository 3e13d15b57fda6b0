"""The image of a past time: the answers that were live or held then are read from disk, and applied in their order."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Final, NamedTuple

from dnstrail.dns.names import address_text, known_address
from dnstrail.dns.rdata import PTR
from dnstrail.history.fact import StageFact
from dnstrail.history.rows import FOREIGN, MATCHED, flag_of
from dnstrail.image import Bounds, Image
from dnstrail.image.answer import CGROUP, Answer, Edge
from dnstrail.image.binding.bindings import Binding
from dnstrail.image.binding.processes import identity_of
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.record import Sighting
from dnstrail.image.relate import MAX_TTL
from dnstrail_history.past.connections import ConnectionEvent, bound, named, names_sent_to, opened, openings_to
from dnstrail_history.past.contents import Content, ReadAnswer, StatedPlace
from dnstrail_history.past.given_answers import GivenAnswer
from dnstrail_history.past.open_index import StatedAnswer, Statement
from dnstrail_history.past.segment_readers import SegmentReader

#: names and addresses that lead to the keys of a past lookup, or to which these lead -> `history` is false
MOST_NODES: Final = 4096
#: relations of the answers that a past lookup lists, and relations of those that it reads -> `history` is false
MOST_RELATIONS: Final = 262_144
#: seconds for which a past lookup reads -> `history` is false
PATIENCE: Final = 0.3  # the cache waits a little longer
#: seconds after a loss of facts, and after the end of what was forgotten, for which a past lookup cannot know what is
#: missing -> `history` is false
DOUBT: Final = 3600  # few relations are live for longer
_TEXTS_AT_ONCE: Final = 64  # names and addresses that are looked for in a segment at once
_SIZE: Final = 1 << 24  # roots and relations: nothing is evicted


class Past(NamedTuple):
    """The image of a past time for some keys. `whole` states that nothing is missing that could matter."""

    image: Image
    whole: bool


class NeededConnections(NamedTuple):
    """The connections that an image of the past needs: `bound` are those whose names are asked for.

    `ports` are those of the connections that are counted for answers. `server_names` states whether server names rank.
    """

    bound: Sequence[Binding] = ()
    ports: frozenset[int] = frozenset()
    server_names: bool = False


NONE: Final = NeededConnections()


def past_image(
    segments: Sequence[SegmentReader],
    keys: Iterable[str],
    at: int,
    bounds: Bounds,
    is_over: Callable[[], bool],
    *,
    with_ended: bool,
    decisive: bool = False,
    connections: NeededConnections = NONE,
) -> Past:
    """Return an image that answers lookups of keys in canonical form as of a time (ns of wall time).

    `segments` are those of the store, the oldest first. `bounds` are those of the present image. `is_over` returns
    whether the time for the lookup is over. A trail needs also relations that had ended, and all that their records
    counted. With `decisive` of each record the answers suffice that decide which relations are live, and since when:
    nobody asks for clients or hosts.
    """
    keys = {*keys}
    lag = bounds.grace_ns + (bounds.history_ns if with_ended else 0)
    reading = _Reading(segments, at, lag, is_over, whole_records=with_ended, decisive=decisive)
    image = Image(
        Bounds(
            size=_SIZE,
            grace=bounds.grace,
            history=bounds.history,
            relations=_SIZE,
            connections=_SIZE,
            processes=_SIZE,
        )
    )
    image.live = True
    contents = reading.related(keys)
    read = [one for content in contents for one in content.read or ()]
    events = [bound(binding) for binding in connections.bound]
    if connections.ports and read:
        openings = reading.openings(read, connections.ports)
        read = reading.with_followed(read, openings, {*contents})
        events += map(opened, openings)
    if connections.server_names:
        addresses = [key for key in keys if address_text(key)]
        events += [named(one) for key in addresses for one in names_sent_to(segments, key, at, reading.is_over)]
    read.sort(key=_order)
    _apply_all(image, read, deque(sorted(events, key=itemgetter(0))))
    for one in read:
        if one.times > 1:
            _add_times(image, one)
    image.advance(at)
    return Past(image, not reading.cut and is_known([one for one in segments if not one.fault], at))


def _order(read: ReadAnswer) -> tuple[int, int, int]:
    """Return the place in the order of arrival."""
    return read.segment, read.given.number, read.given.ended


def _sum_of(read: ReadAnswer) -> tuple[object, ...]:
    """Return what the answers of one sum have in common."""
    return read.segment, read.edges, read.given.question, read.given.doubted


class _Reading:
    """The search for the answers that lead to some keys, or to which these lead. `cut` states that a bound ended it."""

    def __init__(
        self,
        segments: Sequence[SegmentReader],
        at: int,
        lag: int,
        is_over: Callable[[], bool],
        *,
        whole_records: bool,
        decisive: bool,
    ) -> None:
        self.cut = is_over()
        self._whole_records = whole_records
        self._decisive = decisive
        since = at - MAX_TTL * SECOND - lag
        self._segments = [one for one in reversed(segments) if one.first <= at and one.last_ended >= since]
        while not whole_records and self._segments and self._segments[-1].ends + lag <= at:
            self._segments.pop()  # all that it and those before it state had ended
        self._at = at
        self._lag = lag
        self._time_is_over = is_over
        self._unlisted = self._unread = MOST_RELATIONS
        self._contents: dict[frozenset[Edge], Content] = {}
        self._placed: dict[tuple[SegmentReader, int], tuple[frozenset[Edge], Content]] = {}
        self._read: dict[bytes, tuple[Statement, frozenset[Edge], Content]] = {}  # what was read, by its digest
        self._touched: dict[tuple[str, bool], list[tuple[frozenset[Edge], Content]]] = {}

    def related(self, keys: set[str]) -> list[Content]:
        """Return what the answers state by which names lead to the keys, and the keys to others; up first."""
        found: dict[Content, None] = {}
        for upwards in (True, False):
            seen, pending = {*keys}, {*keys}
            while pending and not self.cut:
                new: set[str] = set()
                for text in pending:
                    for edges, content in self._touching(text, pending, upwards=upwards):
                        touching = [edge for edge in edges if (edge[2] if upwards else edge[0]) == text]
                        if not (touching or upwards) or not self._is_held(content):
                            continue
                        found[content] = None
                        new |= {edge[0] if upwards else edge[2] for edge in touching if edge[1] != PTR}
                pending = new - seen
                seen |= new
                self.cut = self.cut or len(seen) > MOST_NODES
        return [*found]

    def openings(self, read: Iterable[ReadAnswer], ports: Iterable[int]) -> list[StageFact]:
        """Return the openings of connections to the addresses of some answers, since the first of these."""
        targets = {edge[2] for one in read for edge in one.edges}
        addresses = [text for text in targets if address_text(text)]
        since = min(one.given.ended for one in read)
        found = openings_to(self._segments, addresses, [*ports], since, self._at, self.is_over)
        self.cut = self.cut or found.cut
        return found.stages

    def with_followed(
        self, read: list[ReadAnswer], openings: Iterable[StageFact], applied: AbstractSet[Content]
    ) -> list[ReadAnswer]:
        """Return answers with the further ones that connections may have followed.

        These do not lead to the keys, had been removed, or are in a sum, which counts them no longer.
        """
        times: defaultdict[str, list[int]] = defaultdict(list)
        for stage in openings:
            times[known_address(stage.flow.destination)].append(stage.time)
        known = {(one.segment, one.given.number) for one in read}
        found: dict[tuple[int, int], ReadAnswer] = {}
        for address, opened_at in times.items():
            opened_at.sort()
            for edges, content in self._touching(address, times, upwards=True):
                if self.is_over():
                    return read
                if any(edge[2] == address for edge in edges):
                    already = content.read if content in applied else None
                    for one in content.followed(opened_at, already or ()):
                        if (place := (one.segment, one.given.number)) not in known:
                            found[place] = one
        counted = Counter(map(_sum_of, found.values()))
        left = [one._replace(times=one.times - counted[_sum_of(one)]) if not one.given.number else one for one in read]
        return [*(one for one in left if one.times > 0), *found.values()]

    def _touching(self, text: str, others: Iterable[str], *, upwards: bool) -> list[tuple[frozenset[Edge], Content]]:
        """Return what the answers state that touch a name or an address; unless `upwards`, those that it leads from.

        Others that will be asked for are read together with it.
        """
        known = self._known_to_touch(text, upwards=upwards)
        if known is None:
            missing = [one for one in others if one != text and self._known_to_touch(one, upwards=upwards) is None]
            self._list([text, *missing[: _TEXTS_AT_ONCE - 1]], upwards=upwards)
            known = self._touched[text, upwards]
        return known

    def _known_to_touch(self, text: str, *, upwards: bool) -> list[tuple[frozenset[Edge], Content]] | None:
        return self._touched.get((text, True), self._touched.get((text, upwards)))

    def _list(self, texts: Sequence[str], *, upwards: bool) -> None:
        """List what the answers state that touch some names and addresses."""
        most = max(self._unlisted, 0)
        listed: dict[str, list[tuple[SegmentReader, Sequence[StatedAnswer]]]] = {text: [] for text in texts}
        for segment in self._segments:
            if self.is_over():
                break
            touching = segment.touching(texts, most, upwards=upwards)
            self.cut = self.cut or sum(map(len, touching.values())) >= most
            for text, stated in touching.items():
                listed[text].append((segment, stated))
        for text, of_text in listed.items():
            self._touched[text, upwards] = self._contents_of(of_text)

    def _contents_of(
        self, touching: list[tuple[SegmentReader, Sequence[StatedAnswer]]]
    ) -> list[tuple[frozenset[Edge], Content]]:
        """Return what answers state that touch one text, by segment, the newest first."""
        found: dict[frozenset[Edge], Content] = {}
        held = [any(one.ends * SECOND + self._lag > self._at for one in stated) for _, stated in touching]
        if not self._whole_records:  # what ended before the oldest answer that was live is of no use
            del touching[len(held) - held[::-1].index(True) if True in held else 0 :]
        for segment, stated in touching if True in held else ():
            for one in stated:
                placed = self._placed.get((segment, one.answer))
                if self._unlisted <= 0 or (placed is None and self.is_over()):
                    self.cut = True
                    break
                if placed is None:
                    placed = self._placed[segment, one.answer] = self._place(segment, one)
                edges, content = placed
                self._unlisted -= len(edges)
                if edges:  # they can be read
                    found[edges] = content
        return [*found.items()]

    def _place(self, segment: SegmentReader, stated: StatedAnswer) -> tuple[frozenset[Edge], Content]:
        """Return what an answer states; it becomes a place of it, unless that was read before."""
        known = self._read.get(stated.digest)
        if known is None:
            statement = segment.statement(stated.answer, self._read)
            edges = frozenset(statement.edges)
            known = statement, edges, self._contents.setdefault(edges, Content())
            if stated.digest and edges:
                self._read[stated.digest] = known
        statement, edges, content = known
        if content.read is None:
            content.places.setdefault(segment, []).append(StatedPlace(segment, stated, *statement))
        return edges, content

    def _is_held(self, content: Content) -> bool:
        if content.read is None:
            if self._unread <= 0 or self.is_over():
                self.cut = True
                return False
            count = content.read_decisive(self._at, self._lag, self.is_over) if self._decisive else None
            if count is None:
                count = content.read_until(self._at, self._lag, self.is_over, whole=self._whole_records)
            self._unread -= count
        return bool(content.read)

    def is_over(self) -> bool:
        """Return whether the time for the lookup is over; it is then cut."""
        is_over = self._time_is_over()
        self.cut = self.cut or is_over
        return is_over


def _apply_all(image: Image, read: Iterable[ReadAnswer], events: deque[ConnectionEvent]) -> None:
    """Apply answers in the order of their arrival, and each event after the answers that came before it.

    Sums are applied at the begin of their segment, whatever their time.
    """
    for number, one in enumerate(read, 1):
        while one.given.number and events and events[0].time < one.given.ended:
            events.popleft().apply(image)
        _apply(image, number, one.given, one.edges)
    for event in events:
        event.apply(image)


def _apply(image: Image, number: int, given: GivenAnswer, edges: tuple[Edge, ...]) -> None:
    """Apply an answer as the image applied it then."""
    process, host, ended = given.process, given.host, given.ended
    matched, foreign = (flag_of(given.flags, place) for place in (MATCHED, FOREIGN))
    evidence = Evidence(given.type, process, given.client, given.server, bool(matched), foreign, host)
    cgroup = (0, 0) if process is None else (process.cgroup_id, process.owner or process.cgroup_id)
    image.advance(ended)
    sighting = Sighting(ended, ended, number, given.lives, evidence)
    answer = Answer(given.question, given.type, edges, given.lives)
    image.store.apply(answer, sighting, (host, CGROUP, *cgroup), image.now, doubted=given.doubted, live=True)
    if (identity := identity_of(host, process)) is not None:
        image.binder.processes.note(identity, ended)


def _add_times(image: Image, read: ReadAnswer) -> None:
    """Count the answers that one stands for, unless the image removed their record."""
    root, stated = image.store.places.roots.get(read.given.question), frozenset(read.edges)
    for record in root.records() if root is not None else ():
        if record.doubted == read.given.doubted and frozenset(record.edges) == stated and record.total is not None:
            record.total.count += (read.times - 1) * (record.total.first <= read.given.ended)


def is_known(segments: Sequence[SegmentReader], at: int) -> bool:
    """Return whether no fact is missing that could matter at a time, as far as the segments state it."""
    forgotten = (one for segment in segments for one in segment.forgotten)
    if any(since <= at <= until + DOUBT * SECOND for since, until in forgotten):
        return False
    return any(since <= at <= until for since, until in _known(segments))


def _known(segments: Sequence[SegmentReader]) -> Iterator[tuple[int, int]]:
    """Yield the times about which all is known: DOUBT after a loss, after the begin of the first segment at once."""
    number, begun, known = 0, 0, (0, -1)
    for segment in segments:
        follows, number = segment.number == number + 1, segment.number
        for since, until in segment.stretches:
            if follows and since == begun:
                known = known[0], until
                continue
            yield known
            is_first = follows and begun == 0
            began = since if follows else max(since, segment.first)
            begun, known = since, (began if is_first else began + DOUBT * SECOND, until)
            follows = True
    yield known
