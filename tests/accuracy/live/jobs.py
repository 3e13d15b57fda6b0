"""The jobs: which client fetches which names, on which host, and when; drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from clients import Client
from internet import Site

_PLAIN = 0.2  # share of the URLs without TLS
_TOGETHER = 0.5  # share of the processes whose names have one address, if as many have it: a page and its parts
_REPEATS = 0.3  # share of the processes that fetch a URL again: some clients remember its address


@dataclass
class Job:
    """One process of a client. `begins` is the time of its start, in seconds from the start of all."""

    number: int
    client: Client
    host: int
    names: list[str]
    urls: list[str]
    begins: float
    process: int = 0
    started: int = 0
    ended: int = 0

    def command(self, folder: Path) -> list[str]:
        """Return the command of the process, which may write into a folder of its own."""
        own = folder / f"job{self.number}"
        own.mkdir()
        return self.client.command(self.urls, own)


def draw_jobs(
    seed: int, clients: list[Client], sites: list[Site], hosts: int, connections: int, rate: float
) -> list[Job]:
    """Draw jobs until they fetch this many URLs, with every client equally often, and `rate` URLs a second."""
    random = Random(f"jobs {seed}")
    jobs: list[Job] = []
    fetched = 0
    while fetched < connections:
        for client in random.sample(clients, len(clients)):
            names = _names(random, sites, random.randint(min(2, client.most), client.most))
            urls = [f"{client.scheme or _scheme(random)}://{name}/" for name in names]
            if len(urls) > 1 and random.random() < _REPEATS:
                urls.append(urls[0])
            jobs.append(Job(len(jobs), client, random.randrange(hosts), names, urls, fetched / rate))
            fetched += len(urls)
            if fetched >= connections:
                break
    return jobs


def _names(random: Random, sites: list[Site], count: int) -> list[str]:
    first = random.choice(sites)
    of_address = [site for site in sites if site.addresses[0] == first.addresses[0]]
    together = random.random() < _TOGETHER and len(of_address) >= count
    return [site.name for site in random.sample(of_address if together else sites, count)]


def _scheme(random: Random) -> str:
    return "http" if random.random() < _PLAIN else "https"
