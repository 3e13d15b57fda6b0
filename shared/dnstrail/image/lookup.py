"""The lookup: which names lead to a key, and which addresses it leads to (docs/inside/image.md).

Most keys are touched by one record, which gives the whole result. The others need walks. A key without forward
relations is looked up by its reverse records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import AAAA, CNAME, FAR, PTR, A
from dnstrail.dns.tables import PARTS, Shards
from dnstrail.image.graph import Graph, newest_first
from dnstrail.image.record import LATE, Record, Root
from dnstrail.image.result import EXPIRED, LookupResult
from dnstrail.image.view import NEVER, View
from dnstrail.image.walk import Down, Up

if TYPE_CHECKING:
    from mypy_extensions import i64

MOST: Final = 16  # relations of the only record of a usual lookup
_BOTH: Final = A | AAAA
_MOST_ROUGH: Final = 8  # records with a rough sum for which a lookup is repeated
# Records for its origin, or reverse relations, that each lookup may read, whatever others of its request have read.
_LEAST: Final = 64


def look_up(view: View, roots: Shards[Root], key: str, nodes: int) -> tuple[LookupResult, Root] | None:
    """Look up a key in canonical form, and return the result with the root by whose answer it was found.

    Return None if nothing live touches the key.
    """
    if view.at is None:
        usual = look_up_usual(view.graph, key, view.t, min(MOST, nodes, view.budget))
        if usual is not None:
            view.budget -= len(usual[0].dns_queries) + len(usual[0].ip_addresses)
            return usual
    return look_up_by_walks(view, roots, key, nodes)


def look_up_by_walks(view: View, roots: Shards[Root], key: str, nodes: int) -> tuple[LookupResult, Root] | None:
    """Look up any key as `look_up` does, also where a shorter path exists."""
    view.begin()
    found = _look_up(view, roots, key, nodes)
    if found is None or view.rough is None or _is_settled(view, roots, key, nodes, found[0], view.rough):
        return found
    return replace(found[0], history=False), found[1]


def _is_settled(
    view: View, roots: Shards[Root], key: str, nodes: int, found: LookupResult, rough: list[Record]
) -> bool:
    """Return whether a result is the same wherever the last answers of the rough records lie between two samples.

    Each comparison of two answers changes if one of them moves alone, and what is live changes most if all of them do.
    """
    if len(rough) > _MOST_ROUGH:
        return False
    alone = [[record] for record in rough] if len(rough) > 1 else []
    for raised in [[*rough], *alone]:
        view.raised = raised
        again = _look_up(view, roots, key, nodes)
        view.raised = None
        if again is None or again[0] != found or view.budget < 0:
            return False
    return True


def _look_up(view: View, roots: Shards[Root], key: str, nodes: int) -> tuple[LookupResult, Root] | None:
    view.aged = False
    is_address = address_text(key) is not None
    root = find_origin(view, roots, key, is_address=is_address)
    if root is None:
        return look_up_pointers(view, key, nodes, is_address=is_address)
    if is_address:
        addresses, queries, cut = _of_address(view, root.name, key, nodes)
    else:
        addresses, queries, cut = _of_name(view, root.name, key, nodes)
    state = _state(view, roots, key, bool(addresses), nodes, is_address=is_address)
    return LookupResult(addresses, queries, root.name, state, cut, view.exact), root


def put_first(found: LookupResult | None, name: str, view: View, key: str, nodes: int) -> LookupResult:
    """Return the result of an address with the name of a connection to it first, as its root.

    The live chain from the name to the address follows. Without one the state is "expired".
    """
    chain = Up(view, key, nodes).chain(name)
    if found is None:
        return LookupResult([key], [name], name, EXPIRED, history=view.exact)
    queries = [*dict.fromkeys([name, *chain[:-1], *found.dns_queries])]
    return replace(found, dns_queries=queries, dns_root=name, state=found.state if chain else EXPIRED)


def _of_address(view: View, question: str, key: str, nodes: int) -> tuple[list[str], list[str], bool]:
    """Return an address, its names in order, and whether a bound left some out."""
    up = Up(view, key, nodes)
    queries = _in_order([question, *up.chain(question)[:-1]], up.freshness)
    if key not in view.graph.out:
        return [key], queries, up.cut
    found = look_up_pointers(view, key, nodes - len(queries), is_address=True)
    if found is None:
        return [key], queries, up.cut
    pointed, _ = found
    queries += [name for name in pointed.dns_queries if name not in up.freshness and name != question]
    return [key], queries, up.cut or pointed.truncated


def _of_name(view: View, question: str, key: str, nodes: int) -> tuple[list[str], list[str], bool]:
    """Return the addresses of a name and the related names in order, and whether a bound left some out."""
    down = Down(view, key, nodes)
    addresses, freshness, cut = down.addresses(), down.freshness, down.cut
    first = [question, key]
    if key in view.graph.into:
        up = Up(view, key, nodes - len(freshness))
        first = [question, *up.chain(question), key]
        cut = cut or up.cut
        for name, fresh in up.freshness.items():
            if fresh > freshness.get(name, NEVER):
                freshness[name] = fresh
    for address in addresses:
        del freshness[address]
    return addresses, _in_order(first, freshness), cut


def _in_order(first: list[str], freshness: dict[str, int]) -> list[str]:
    """Return the first names, then the others, newest first; each name once."""
    names = dict.fromkeys(first)
    others = [name for name in freshness if name not in names]
    if len(others) > 1:
        others = [name for _, name in sorted([(-freshness[name], name) for name in others])]
    return [*names, *others]


def find_origin(view: View, roots: Shards[Root], key: str, *, is_address: bool) -> Root | None:
    """Return the root of a key: the key itself, else the question of the answer that arrived last.

    The key itself counts if it was asked, and one of its relations is live by an answer to that. Else the answers count
    by which a forward relation that touches the key is live. A doubted answer comes after all others. Return None if
    there is no such answer.
    """
    if key not in view.graph.into and (is_address or key not in view.graph.out):
        return None
    own = None if is_address else roots.get(key)
    doubted: Root | None = None
    if own is not None:
        for record in own.records():
            if _last_number(view, record, key, owned=True) >= 0:
                if not record.doubted:
                    return own
                doubted = own
    last = _last_touching(view, key, is_address=is_address, doubted=False)
    return last or doubted or _last_touching(view, key, is_address=is_address, doubted=True)


def _last_touching(view: View, key: str, *, is_address: bool, doubted: bool) -> Root | None:
    """Return the question of the last arrived answer with a live forward relation that touches the key."""
    best, root = -1, None
    read = 0
    graph = view.graph
    for index in (graph.into,) if is_address else (graph.into, graph.out):
        for record in newest_first(index, key):
            if record.youngest.number <= best or (read > _LEAST and view.budget < 0):
                break  # all others have smaller numbers
            if record.doubted != doubted:
                continue
            read += 1
            view.budget -= 1
            number = _last_number(view, record, key, owned=index is graph.out)
            if number > best:
                best, root = number, record.root
    return root


def _last_number(view: View, record: Record, key: str, *, owned: bool) -> int:
    """Return the number of the last answer by which a relation of the key is live, or one to it; -1 if none is."""
    best, last = -1, record.youngest.number
    for place in record.owned_by(key) if owned else record.leading_to(key):
        if record.edges[place][0 if owned else 2] == key:
            seen = view.live(record, place)
            if seen is not None and seen.number > best:
                best = seen.number
                if best == last:
                    break
    return best


def _state(view: View, roots: Shards[Root], key: str, addresses: bool, nodes: int, *, is_address: bool) -> str:
    """Return "grace" if the lookup without grace would find nothing, or no address where it now finds some."""
    if not view.aged:
        return "live"
    strict = view.without_grace()
    if find_origin(strict, roots, key, is_address=is_address) is None:
        found = bool(reverse_records(strict, key, is_address=is_address))
    elif is_address or not addresses:
        found = True
    else:
        down = Down(strict, key, nodes)
        found = bool(down.near or down.far)
    view.exact = view.exact and strict.exact
    if strict.rough is not None:
        view.rough = strict.rough if view.rough is None else [*dict.fromkeys(view.rough + strict.rough)]
    return "live" if found else "grace"


def look_up_usual(graph: Graph, key: str, t: int, most: int) -> tuple[LookupResult, Root] | None:
    """Return what `look_up` returns at the present time `t`, if it is simple to tell; else None.

    No other record may touch a node of the walk. All relations of the record, `most` at most, must be live by its last
    answer without grace.
    """
    digest: i64 = hash(key)
    part = digest % PARTS
    above = graph.into.parts[part].get(key)
    record = graph.out.parts[part].get(key, above)
    if not isinstance(record, Record) or (above is not None and above is not record):
        return None
    youngest, edges = record.youngest, record.edges
    if record.latest == LATE or len(edges) > most:
        return None
    lasting = t - youngest.stamp
    for life in youngest.lives:
        if life <= lasting:
            return None
    if edges[0][1] == PTR:
        return LookupResult([key], sorted([target for _, _, target in edges]), ""), record.root
    return _along_chain(graph, record, key)


def _along_chain(  # noqa: C901 - one pass, since a call costs more than the tests
    graph: Graph, record: Record, key: str
) -> tuple[LookupResult, Root] | None:
    """Return the result by a record that states one chain; None if another record touches a node of the walk.

    The chain leads from the question along aliases to addresses, or to services: MX and SRV whose targets own nothing.
    """
    into, out, root, edges = graph.into.parts, graph.out.parts, record.root, record.edges
    last = root.name
    place = 0 if key == last else -1  # of the key in the chain
    names: list[str] = [last]
    addresses: list[str] = []
    services: list[str] | None = None
    versions = 0  # of IP in the addresses
    for owner, kind, target in edges:
        if owner != last:
            return None
        if kind == A or kind == AAAA:  # noqa: PLR1714, SIM109 - a set or a tuple costs more
            addresses.append(target)
            versions |= kind
        elif kind == CNAME and not addresses and services is None and target not in names:
            index, node = (into, last) if place < 0 else (out, target)
            digest: i64 = hash(node)
            if index[digest % PARTS].get(node, record) is not record:
                return None
            if target == key:
                place = len(names)
            names.append(target)
            last = target
        elif kind in FAR and target not in names and target not in out[hash(target) % PARTS]:
            services = [target] if services is None else [*services, target]
        else:
            return None
    if place < 0:
        digest = hash(last)
        if into[digest % PARTS].get(last, record) is not record:
            return None
        is_service = services is not None and key in services
        return LookupResult([] if is_service else [key], [*names, key] if is_service else names, root.name), root
    if services is not None or len(names) > place + 2:
        names[place + 1 :] = sorted({*names[place + 1 :], *(services or ())})
    # A server may state one address in IPv4 and in IPv4-mapped form.
    distinct = [*dict.fromkeys(addresses)] if versions == _BOTH else addresses
    return LookupResult(distinct, names, root.name), root


def look_up_pointers(view: View, key: str, nodes: int, *, is_address: bool) -> tuple[LookupResult, Root] | None:
    """Look up a key by its reverse records; return None if it has no live ones."""
    ranks: dict[str, tuple[int, int, int]] = {}  # freshness (negative), number of the answer, place there
    last, root = (NEVER, 0), None
    relations = reverse_records(view, key, is_address=is_address)
    cut = view.budget < 0
    for record, place, fresh in relations:
        if len(ranks) >= nodes:
            cut = True
            break
        owner, _, target = record.edges[place]
        other = target if is_address else owner
        number = view.number(record, place, fresh)
        known = ranks.get(other)
        if known is None or (-fresh, -number) < (known[0], -known[1]):
            ranks[other] = -fresh, number, place
        if root is None or (fresh, number) > last:
            last, root = (fresh, number), record.root
    if root is None:
        return None
    others = sorted(ranks, key=ranks.__getitem__)
    if is_address:
        others = [name for _, name in sorted([(rank[0], name) for name, rank in ranks.items()])]
    addresses, names = ([key], others) if is_address else (others, [key])
    grace = view.aged and not reverse_records(view.without_grace(), key, is_address=is_address)
    return LookupResult(addresses, names, "", "grace" if grace else "live", cut, view.exact), root


def reverse_records(view: View, key: str, *, is_address: bool) -> list[tuple[Record, int, int]]:
    """Return the live PTR relations of an address, or to a name: record, place and freshness.

    If the bound on relations leaves some out, the budget of the view is negative.
    """
    found: list[tuple[Record, int, int]] = []
    for record in newest_first(view.graph.out if is_address else view.graph.pointed, key):
        for place in record.owned_by(key) if is_address else record.leading_to(key):
            if record.edges[place][0 if is_address else 2] == key:
                view.budget -= 1
                if view.budget < 0 and len(found) >= _LEAST:
                    return found
                fresh = view.freshness(record, place)
                if fresh != NEVER:
                    found.append((record, place, fresh))
    return found
