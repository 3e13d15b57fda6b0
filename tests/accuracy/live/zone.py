"""The zone file of the made-up internet."""

from __future__ import annotations

from itertools import pairwise

from internet import READY, RESOLVER, ZONE, Site

_HEAD = f"""$ORIGIN {ZONE}.
@ 3600 IN SOA ns.{ZONE}. admin.{ZONE}. 1 3600 600 86400 5
@ 3600 IN NS ns.{ZONE}.
ns 3600 IN A {RESOLVER}
{READY}. 3600 IN A {RESOLVER}
"""


def zone_file(sites: list[Site]) -> str:
    """Return the records of all names; each owner has its records once."""
    return _HEAD + "".join(f"{line}\n" for line in dict.fromkeys(line for site in sites for line in _records(site)))


def _records(site: Site) -> list[str]:
    chain = (site.name, *site.aliases)
    lines = [f"{owner}. {site.ttl} IN CNAME {target}." for owner, target in pairwise(chain)]
    lines += [f"{site.owner}. {site.ttl} IN {'AAAA' if ':' in text else 'A'} {text}" for text in site.addresses]
    if site.https and not site.aliases:
        lines.append(f'{site.name}. {site.ttl} IN HTTPS 1 . alpn="h2,http/1.1"')
    return lines
