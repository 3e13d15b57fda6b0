"""The names and addresses that relations of one host tie to a key, as a lookup at its cache finds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import PTR


class Relation(NamedTuple):
    """A relation of a host. `is_certain` states that it was live at the time of the lookup, else it may have been."""

    owner: str
    type: int
    target: str
    is_certain: bool


class Tied(NamedTuple):
    """The addresses and the names of a key, without the question that led to it."""

    addresses: frozenset[str]
    names: frozenset[str]


def tied_to(key: str, relations: Iterable[Relation]) -> Tied:
    """Return what relations tie to a key, as the image of a cache does (docs/inside/image.md).

    The names lead to the key, or follow from it; so do the addresses of a name. A reverse record adds its name to an
    address, and names the address of a name that no other relation touches, or that none may have touched.
    """
    into: dict[str, set[str]] = {}
    out: dict[str, set[str]] = {}
    pointed: set[str] = set()  # the other ends of reverse records of the key
    is_touched = False  # certainly, by another relation
    for owner, rdtype, target, is_certain in relations:
        if rdtype != PTR:
            into.setdefault(target, set()).add(owner)
            out.setdefault(owner, set()).add(target)
            is_touched |= is_certain and key in (owner, target)
        elif key in (owner, target):
            pointed.add(target if owner == key else owner)
    up = _reached(key, into)
    if address_text(key) is not None:
        return Tied(frozenset({key}), frozenset(up | pointed))
    if key not in into and key not in out:
        return Tied(frozenset(pointed), frozenset({key} if pointed else ()))
    down = _reached(key, out)
    addresses = {one for one in down if address_text(one) is not None}
    names = frozenset(up | {key} | (down - addresses))
    return Tied(frozenset(addresses if is_touched else addresses | pointed), names)


def _reached(key: str, following: dict[str, set[str]]) -> set[str]:
    """Return all nodes to which steps lead from a key, the key excluded."""
    seen, pending = {key}, [key]
    while pending:
        new = following.get(pending.pop(), set()) - seen
        seen |= new
        pending += new
    return seen - {key}
