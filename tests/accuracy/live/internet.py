"""The made-up internet: its names, with their aliases, addresses and lives, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

ZONE = "example"
RESOLVER = "10.98.0.53"
READY = f"ready.{ZONE}"  # no client fetches it: a resolver that answers it is ready
NETWORK, NETWORK6 = "10.98.0.0/16", "fd98::/64"  # every address of both is served
UNREACHABLE6, SILENT6 = "fd98:1::/64", "fd98:2::/64"  # broken: refused by a router, and without any reply
SHARED, SHARED6 = "10.98.255.1", "fd98::ff:1"
_ALIASED, _DUAL, _HTTPS = 0.35, 0.4, 0.3  # shares of the names
_UNREACHABLE, _SILENT = 0.15, 0.03  # shares of the names with IPv6
_NEIGHBOUR = 0.1  # share of the names that use the addresses of the name before
_EDGES = 5  # aliases that several shared names lead to


@dataclass(frozen=True)
class Site:
    """A name. `aliases` is the chain from the name to the owner of the addresses."""

    name: str
    aliases: tuple[str, ...]
    addresses: tuple[str, ...]
    ttl: int
    https: bool

    @property
    def owner(self) -> str:
        """The name that owns the address records."""
        return self.aliases[-1] if self.aliases else self.name


def draw_sites(seed: int, names: int, shared: float) -> list[Site]:
    """Draw names; `shared` is the share of the names on one address."""
    random = Random(f"sites {seed}")
    places = list(range(names))
    together = set(random.sample(places, round(shared * names)))
    sites: list[Site] = []
    for place in places:
        addresses = _shared_addresses(random) if place in together else _own_addresses(random, place, sites)
        name = f"n{place}.site{random.randrange(40)}.{ZONE}"
        aliases = _aliases(random, place, shared=place in together)
        sites.append(Site(name, aliases, addresses, random.randint(1, 60), random.random() < _HTTPS))
    return _one_owner_one_answer(sites)


def _shared_addresses(random: Random) -> tuple[str, ...]:
    return (SHARED, SHARED6) if random.random() < _DUAL else (SHARED,)


def _own_addresses(random: Random, place: int, before: list[Site]) -> tuple[str, ...]:
    if before and SHARED not in before[-1].addresses and random.random() < _NEIGHBOUR:
        return before[-1].addresses
    found = [f"10.98.{1 + place // 80}.{1 + place % 80 * 3 + more}" for more in range(random.choice((1, 1, 1, 2, 3)))]
    if random.random() < _DUAL:
        chance = random.random()
        network = UNREACHABLE6 if chance < _UNREACHABLE else SILENT6 if chance < _UNREACHABLE + _SILENT else NETWORK6
        found.append(f"{network.removesuffix('/64')}{place + 1:x}")
    return tuple(found)


def _aliases(random: Random, place: int, *, shared: bool) -> tuple[str, ...]:
    if random.random() >= _ALIASED:
        return ()
    steps = [f"n{place}.step{number}.cdn.{ZONE}" for number in range(random.choice((1, 1, 2, 3)))]
    if shared and random.random() < 0.5:
        steps[-1] = f"edge{random.randrange(_EDGES)}.cdn.{ZONE}"
    return tuple(steps)


def _one_owner_one_answer(sites: list[Site]) -> list[Site]:
    """Give names with the same owner the addresses and the TTL of the first."""
    first: dict[str, Site] = {}
    for site in sites:
        first.setdefault(site.owner, site)
    return [replace(site, addresses=first[site.owner].addresses, ttl=first[site.owner].ttl) for site in sites]
