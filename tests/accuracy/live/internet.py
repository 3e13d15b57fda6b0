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
_UNREACHABLE, _SILENT = 0.15, 0.05  # shares of the addresses of IPv6
_HOSTED, _NAMES_OF_HOSTER = 0.5, 40  # share of the other names that hosters serve, and one hoster for so many names
MOST_NAMES = 10_000
_EDGES = 3  # owners of the addresses of a hoster, to which aliases lead


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
    """Draw names; `shared` is the share of the names on one address.

    Half of the other names are on the few addresses of a hoster, which serves some twenty of them.
    """
    random = Random(f"sites {seed}")
    together = set(random.sample(range(names), round(shared * names)))
    hosters = [
        _addresses(random, 200 + number // 80, number % 80) for number in range(max(1, names // _NAMES_OF_HOSTER))
    ]
    sites: list[Site] = []
    for place in range(names):
        hoster, addresses = -1, _addresses(random, 1 + place // 80, place % 80)
        if place in together:
            hoster, addresses = len(hosters), _shared_addresses(random)
        elif random.random() < _HOSTED:
            hoster = random.randrange(len(hosters))
            addresses = hosters[hoster]
        name = f"n{place}.site{random.randrange(40)}.{ZONE}"
        ttl, https = random.randint(1, 60), random.random() < _HTTPS
        sites.append(Site(name, _aliases(random, place, hoster), addresses, ttl, https))
    return _one_owner_one_answer(sites)


def _shared_addresses(random: Random) -> tuple[str, ...]:
    return (SHARED, SHARED6) if random.random() < _DUAL else (SHARED,)


def _addresses(random: Random, block: int, number: int) -> tuple[str, ...]:
    """Draw addresses that no other block and number have."""
    found = [f"10.98.{block}.{1 + 3 * number + more}" for more in range(random.choice((1, 1, 1, 2, 3)))]
    if random.random() < _DUAL:
        chance = random.random()
        network = UNREACHABLE6 if chance < _UNREACHABLE else SILENT6 if chance < _UNREACHABLE + _SILENT else NETWORK6
        found.append(f"{network.removesuffix('/64')}{block:x}:{number + 1:x}")
    return tuple(found)


def _aliases(random: Random, place: int, hoster: int) -> tuple[str, ...]:
    if random.random() >= _ALIASED:
        return ()
    steps = [f"n{place}.step{number}.cdn.{ZONE}" for number in range(random.choice((1, 1, 2, 3)))]
    if hoster >= 0 and random.random() < 0.5:
        steps[-1] = f"edge{random.randrange(_EDGES)}.hoster{hoster}.{ZONE}"
    return tuple(steps)


def _one_owner_one_answer(sites: list[Site]) -> list[Site]:
    """Give names with the same owner the addresses and the TTL of the first."""
    first: dict[str, Site] = {}
    for site in sites:
        first.setdefault(site.owner, site)
    return [replace(site, addresses=first[site.owner].addresses, ttl=first[site.owner].ttl) for site in sites]
