"""The made-up internet and its zone file."""

from __future__ import annotations

from collections import Counter

import dns.name
import dns.rdatatype
import dns.zone

from internet import SHARED, ZONE, Site, draw_sites
from zone import zone_file


def resolve(zone: dns.zone.Zone, name: str) -> set[str]:
    """Return the addresses of a name, along its aliases."""
    owner = dns.name.from_text(name)
    while (alias := zone.get_rdataset(owner, dns.rdatatype.CNAME)) is not None:
        owner = alias[0].target
    kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
    return {rdata.address for kind in kinds for rdata in zone.get_rdataset(owner, kind) or ()}


def test_the_zone_resolves_every_name_to_its_addresses():
    """Dnspython finds the addresses of every name in the zone file, along its aliases."""
    sites = draw_sites(seed=1, names=300, shared=0.3)
    zone = dns.zone.from_text(zone_file(sites), origin=f"{ZONE}.", relativize=False)
    assert {site.name: resolve(zone, site.name) for site in sites} == {site.name: {*site.addresses} for site in sites}


def test_the_share_of_names_has_the_shared_address():
    """As many names as asked for have the shared address, and no others."""
    for shared, expected in ((0, 0), (0.1, 20), (1, 200)):
        sites = draw_sites(seed=7, names=200, shared=shared)
        assert sum(SHARED in site.addresses for site in sites) == expected


def test_a_seed_draws_the_same_internet():
    """A seed draws the same names again; another seed draws others."""
    assert draw_sites(1, 50, 0.5) == draw_sites(1, 50, 0.5) != draw_sites(2, 50, 0.5)


def test_names_differ_in_every_way_that_is_measured():
    """Some names have aliases, several addresses, IPv6, broken IPv6 and service bindings; TTLs are 1 to 60."""
    sites = draw_sites(1, 500, 0.1)
    ways: list[set[Site]] = [
        {site for site in sites if site.aliases},
        {site for site in sites if len(site.addresses) > 2},
        *({site for site in sites if site.addresses[-1].startswith(net)} for net in ("fd98::", "fd98:1::", "fd98:2::")),
        {site for site in sites if site.https},
    ]
    assert all(ways)
    assert {site.ttl for site in sites} <= {*range(1, 61)}


def test_hosters_serve_many_names_each():
    """Half of the names that do not have the shared address are on the addresses of a few hosters."""
    counts = Counter(site.addresses for site in draw_sites(1, 1000, 0) if not site.aliases)
    hosted = {addresses: count for addresses, count in counts.items() if count > 1}
    assert len(hosted) == 1000 // 40
    assert 0.4 < sum(hosted.values()) / counts.total() < 0.6
