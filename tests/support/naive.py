"""A slow and obvious model of the image: it keeps every sighting and works each lookup out from scratch."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire
import idna
from dns.name import Name
from dns.rdtypes.svcbbase import ParamKey

TTL_CAP = 7 * 24 * 3600
TTL_SIGN_BIT = 2**31
PTR = "PTR"
RESOLVING = ("A", "AAAA", "CNAME", "SVCB", "HTTPS")  # the kinds that say "this name is that address"
NAME_FIELD = {"CNAME": "target", "MX": "exchange", "SRV": "target", "SVCB": "target", "HTTPS": "target"}
KINDS = ("A", "AAAA", "CNAME", "MX", "SRV", "SVCB", "HTTPS", PTR)
REVERSE_SUFFIXES = ((b"in-addr", b"arpa"), (b"ip6", b"arpa"))

Place = tuple[int, int, int]  # message number, record index, position among the hints of one record
Edge = tuple[Name, str, Name | str | None]  # owner, kind, target (a Name, or an address as text)


class Record(NamedTuple):
    """One well-formed record of the answer section, of class IN and of a kind that may relate."""

    row: int
    owner: Name
    kind: str
    ttl: int
    rdata: Any


class Sighting(NamedTuple):
    """One relation as one message told it; `time` and `ttl` in seconds."""

    time: float
    ttl: int
    owner: str
    kind: str
    target: str
    root: str
    place: Place


@dataclass
class Life:
    """The present life of one relation; `until` is the largest of sighting + TTL, without the grace."""

    owner: str
    kind: str
    target: str
    until: float
    last_seen: float
    place: Place
    roots: dict[str, int]  # root -> number of the last message that brought the relation in this life


def name_text(name: Name) -> str:
    """The text of a name: labels lower-cased and escaped, no trailing dot, the root as "."."""
    return name.canonicalize().to_text(omit_final_dot=True)


def address_text(text: str) -> str | None:
    """The canonical address that `text` (maybe in brackets, maybe with a zone) writes, else None."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_reverse(name: Name) -> bool:
    """Whether the name lies in in-addr.arpa or ip6.arpa, or is one of the two."""
    return name.canonicalize().labels[:-1][-2:] in REVERSE_SUFFIXES


def reverse_address(name: Name) -> str | None:
    """The address that a reverse name names, None if it names none."""
    if not is_reverse(name):
        return None
    *labels, zone, _arpa = [label.decode("latin-1") for label in name.canonicalize().labels[:-1]]
    labels.reverse()
    if zone == "in-addr":
        octets = [str(number) for number in range(256)]
        return ".".join(labels) if len(labels) == 4 and set(labels) <= set(octets) else None
    if len(labels) != 32 or not set(labels) <= set("0123456789abcdef"):
        return None
    digits = "".join(labels)
    return address_text(":".join(digits[i : i + 4] for i in range(0, 32, 4)))


def relatable(name: Name) -> bool:
    """Whether a name may own a forward relation or be the target of any relation (DESIGN 5.3)."""
    return name != dns.name.root and address_text(name_text(name)) is None and not is_reverse(name)


def key_text(key: str) -> str | None:
    """A lookup key in the form of the image, None if it is no name or a reverse name of no address."""
    text = key.strip()
    address = address_text(text) or address_text(text.removesuffix("."))
    if address is not None:
        return address
    try:
        if not text.isascii():
            try:
                return key_text(idna.encode(text, uts46=True).decode("ascii"))
            except UnicodeError:
                return key_text(dns.name.from_text(text, idna_codec=dns.name.IDNA_2003).to_text())
        name = dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError):
        return None
    return reverse_address(name) if is_reverse(name) else name_text(name)


def read_message(payload: bytes) -> tuple[Name, list[Record]] | None:
    """The question and the usable answer records of a message that counts, None for any other."""
    parser = dns.wire.Parser(payload)
    try:
        _id, flags, questions, answers, _authority, _additional = parser.get_struct("!HHHHHH")
        response, opcode = flags >> 15, (flags >> 11) & 15
        if response != 1 or opcode != 0 or questions != 1 or answers == 0:
            return None
        question = dns.name.from_wire_parser(parser)
        _type, klass = parser.get_struct("!HH")
    except dns.exception.DNSException:
        return None
    return (question, list(read_records(parser, answers))) if klass == dns.rdataclass.IN else None


def read_records(parser: dns.wire.Parser, count: int) -> Iterator[Record]:
    """Yield what is complete before broken framing, without the records that dnspython refuses."""
    for index in range(count):
        try:
            owner = dns.name.from_wire_parser(parser)
            rdtype, klass, ttl, length = parser.get_struct("!HHIH")
            end = parser.current + length
            if length > parser.remaining():
                return
        except dns.exception.DNSException:
            return
        kind = dns.rdatatype.to_text(rdtype)
        if klass == dns.rdataclass.IN and kind in KINDS:
            try:
                with parser.restrict_to(length):
                    rdata = dns.rdata.from_wire_parser(klass, rdtype, parser)
                ttl = 0 if ttl >= TTL_SIGN_BIT else min(ttl, TTL_CAP)
                yield Record(index, owner, kind, ttl, rdata)
            except dns.exception.DNSException:
                pass
        parser.seek(end)


def record_edges(record: Record) -> list[Edge]:
    """The forward relations that one record makes, in the order of the record."""
    edges: list[Edge] = []
    rdata = record.rdata
    if record.kind in ("A", "AAAA"):
        edges.append((record.owner, record.kind, address_text(rdata.address)))
    if record.kind in NAME_FIELD:
        edges.append((record.owner, record.kind, getattr(rdata, NAME_FIELD[record.kind])))
    if record.kind in ("SVCB", "HTTPS") and rdata.priority != 0:
        source = record.owner if rdata.target == dns.name.root else rdata.target
        for parameter in (ParamKey.IPV4HINT, ParamKey.IPV6HINT):
            if parameter in rdata.params:
                hints = rdata.params[parameter].addresses
                edges += [(source, record.kind, address_text(hint)) for hint in hints]
    return [edge for edge in edges if all(relatable(end) for end in edge if isinstance(end, Name))]


def forward_sightings(time: float, number: int, question: Name, records: list[Record]) -> list[Sighting]:
    """What the answer to a question about a name tells, from the question on, in any order of records."""
    edges_of = [(record, record_edges(record)) for record in records]
    reached: set[Name | str | None] = {question}
    before = 0
    while len(reached) != before:
        before = len(reached)
        for record, edges in edges_of:
            if record.owner in reached:
                reached.update(target for _, _, target in edges)
    sightings = []
    for record, edges in edges_of:
        for position, (owner, kind, target) in enumerate(edges if record.owner in reached else []):
            ends = name_text(owner), kind, name_text(target) if isinstance(target, Name) else str(target)
            place = (number, record.row, position)
            sightings.append(Sighting(time, record.ttl, *ends, name_text(question), place))
    return sightings


def reverse_sightings(time: float, number: int, question: Name, records: list[Record]) -> list[Sighting]:
    """The PTR relations of the address that a reverse question names, through aliases too (RFC 2317)."""
    address = str(reverse_address(question))
    ttl_to = {question: TTL_CAP}  # owner -> the best of the shortest TTLs of the chains that lead to it
    changed = True
    while changed:
        changed = False
        for record in records:
            if record.kind == "CNAME" and record.owner in ttl_to:
                ttl = min(ttl_to[record.owner], record.ttl)
                if ttl > ttl_to.get(record.rdata.target, -1):
                    ttl_to[record.rdata.target] = ttl
                    changed = True
    sightings = []
    for record in records:
        if record.kind == PTR and record.owner in ttl_to and relatable(record.rdata.target):
            ttl = min(ttl_to[record.owner], record.ttl)
            ends = address, PTR, name_text(record.rdata.target)
            sightings.append(Sighting(time, ttl, *ends, address, (number, record.row, 0)))
    return sightings


def lives_of(sightings: list[Sighting], grace: float) -> list[Life]:
    """The last life of every relation, from all its sightings in the order of their arrival."""
    lives: dict[tuple[str, str, str], Life] = {}
    for seen in sightings:
        relation = (seen.owner, seen.kind, seen.target)
        until = seen.time + seen.ttl
        number = seen.place[0]
        life = lives.get(relation)
        if life is None or seen.time >= life.until + grace:
            lives[relation] = Life(*relation, until, seen.time, seen.place, {seen.root: number})
            continue
        life.until = max(life.until, until)
        life.roots[seen.root] = number
        if (seen.time, number) > (life.last_seen, life.place[0]):
            life.last_seen, life.place = seen.time, seen.place
    return list(lives.values())


class Live:
    """What is live at one instant; the one pre-filter, `touching`: forward relations by their ends."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self.pointers: list[Life] = []
        self.touching: dict[str, list[Life]] = {}
        for life in lives:
            if life.kind == PTR:
                self.pointers.append(life)
            else:
                for end in {life.owner, life.target}:
                    self.touching.setdefault(end, []).append(life)

    def out_of(self, name: str) -> list[Life]:
        """The live forward relations that the name owns."""
        return [life for life in self.touching.get(name, []) if life.owner == name]

    def into(self, node: str) -> list[Life]:
        """The live forward relations whose target the node is."""
        return [life for life in self.touching.get(node, []) if life.target == node]

    def newest_first(self, names: Iterable[str]) -> list[str]:
        """The names by the last sighting of a live forward relation that touches them, ties by name."""

        def last_sighting(name: str) -> float:
            return max((life.last_seen for life in self.touching.get(name, [])), default=float("-inf"))

        return sorted(names, key=lambda name: (-last_sighting(name), name))


def spread(start: str, steps: Callable[[str], Iterable[str]]) -> set[str]:
    """All nodes that one or more steps reach; the start itself only if a loop leads back to it."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for node in steps(waiting.pop()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def root_of(live: Live, key: str) -> str:
    """The question that the answer is told from; a live forward relation must touch the key."""
    if any(key in life.roots for life in live.out_of(key)):
        return key
    return max((number, root) for life in live.touching[key] for root, number in life.roots.items())[1]


def chain_of(live: Live, root: str, key: str) -> list[str]:
    """The nodes of the shortest live chain from root to key, both included; without one, the root alone."""
    distance = {key: 0}  # steps from a name to the key
    edge_of_search = [key]
    while edge_of_search:
        node = edge_of_search.pop(0)
        for life in live.into(node):
            if life.owner not in distance:
                distance[life.owner] = distance[node] + 1
                edge_of_search.append(life.owner)
    chain = [root]
    while root in distance and chain[-1] != key:
        here = chain[-1]
        targets = {one.target for one in live.out_of(here)}
        chain.append(live.newest_first(one for one in targets if distance.get(one) == distance[here] - 1)[0])
    return chain


def addresses_below(live: Live, key: str, kinds: tuple[str, ...] | None) -> list[str]:
    """The addresses reached from the key by relations of these kinds (None: all), newest first."""

    def usable(name: str) -> list[Life]:
        return [life for life in live.out_of(name) if kinds is None or life.kind in kinds]

    owners = {key} | spread(key, lambda name: (life.target for life in usable(name)))
    best: dict[str, tuple[float, Place]] = {}
    for owner in owners:
        for life in usable(owner):
            if address_text(life.target) is not None:
                rank = (-life.last_seen, life.place)
                best[life.target] = min(rank, best.get(life.target, rank))
    return sorted(best, key=lambda address: best[address])


def answer(live: Live, key: str) -> dict[str, Any] | None:
    """The lists and the root of one lookup, without the state; None when nothing live touches the key."""
    is_address = address_text(key) is not None
    pointing = [life for life in live.pointers if key in (life.owner, life.target)]
    pointing.sort(key=lambda life: (-life.last_seen, life.target if is_address else life.place))
    pointed = [life.target if is_address else life.owner for life in pointing]
    if key not in live.touching:
        if not pointed:
            return None
        addresses, queries = ([key], pointed) if is_address else (pointed, [key])
        return {"ip_addresses": addresses, "dns_queries": queries, "dns_root": ""}
    root = root_of(live, key)
    names = {root} | spread(key, lambda node: (life.owner for life in live.into(node)))
    if is_address:
        addresses = [key]
    else:
        down = spread(key, lambda name: (life.target for life in live.out_of(name)))
        names |= {key} | {node for node in down if address_text(node) is None}
        resolved = addresses_below(live, key, RESOLVING)
        addresses = resolved + [one for one in addresses_below(live, key, None) if one not in resolved]
    queries = [name for name in chain_of(live, root, key) if name in names]
    queries += live.newest_first(names - set(queries))
    if is_address:
        queries += [name for name in pointed if name not in queries]
    return {"ip_addresses": addresses, "dns_queries": queries, "dns_root": root}


class NaiveModel:
    """An image without bounds: feed it raw messages in the order of arrival, then ask it."""

    def __init__(self, grace: float = 60.0) -> None:
        self._grace = grace
        self._sightings: list[Sighting] = []
        self._messages = 0
        self._latest: float | None = None
        self._lives: tuple[int, list[Life]] = (0, [])  # number of messages fed, and the lives they make
        self._tables: tuple[tuple[int, float], Live, Live] | None = None  # likewise for an instant

    def feed(self, stamp: float, payload: bytes) -> None:
        """Take one raw DNS message (a UDP body) seen at `stamp`, in epoch seconds; any bytes will do."""
        number = self._messages
        self._messages += 1
        self._latest = stamp if self._latest is None else max(stamp, self._latest)
        message = read_message(payload)
        if message is None:
            return
        question, records = message
        if reverse_address(question) is not None:
            self._sightings += reverse_sightings(stamp, number, question, records)
        elif relatable(question):
            self._sightings += forward_sightings(stamp, number, question, records)

    def get(self, key: str, at: float | None = None) -> dict[str, Any] | None:
        """The answer at `at` (epoch seconds; None: the greatest stamp fed so far), None if there is none."""
        node = key_text(key)
        instant = self._latest if at is None else at
        if node is None or instant is None:
            return None
        live, without_grace = self._live_at(instant)
        found = answer(live, node)
        if found is None:
            return None
        strict = answer(without_grace, node)
        wanted = "ip_addresses" if address_text(node) is None else "dns_queries"
        return found | {"state": "live" if strict is not None and strict[wanted] else "grace"}

    def _live_at(self, instant: float) -> tuple[Live, Live]:
        """What is live at an instant, with the grace and without, kept until another one is asked for."""
        if self._lives[0] != self._messages:
            self._lives = (self._messages, lives_of(self._sightings, self._grace))
        moment = (self._messages, instant)
        if self._tables is None or self._tables[0] != moment:
            lives = self._lives[1]
            live = Live(life for life in lives if instant < life.until + self._grace)
            self._tables = (moment, live, Live(life for life in lives if instant < life.until))
        return self._tables[1], self._tables[2]
