"""The jobs that are drawn from a seed."""

from __future__ import annotations

from collections import Counter

from clients import CLIENTS
from internet import draw_sites
from jobs import Job, draw_jobs

SITES = draw_sites(1, 300, 0.3)


def jobs(seed: int = 1, connections: int = 2000) -> list[Job]:
    """Draw jobs for three hosts, ten URLs a second."""
    return draw_jobs(seed, CLIENTS, SITES, 3, connections, 10)


def test_jobs_fetch_as_many_urls_as_asked_at_their_rate():
    """All jobs together fetch the URLs, and each begins when the URLs before it are due."""
    drawn, before = jobs(), 0
    for job in drawn:
        assert job.begins == before / 10
        before += len(job.urls)
    assert 2000 <= before < 2000 + 10


def test_every_client_runs_equally_often():
    """The numbers of processes of two clients differ by one at most."""
    counts = Counter(job.client.name for job in jobs())
    assert counts.keys() == {client.name for client in CLIENTS}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_process_fetches_different_names_and_sometimes_the_first_again():
    """The URLs of a process are its names in their order, some with the first once more."""
    again = 0
    for job in jobs():
        fetched = [url.split("/")[2] for url in job.urls]
        assert len({*job.names}) == len(job.names) <= job.client.most
        assert fetched in (job.names, [*job.names, job.names[0]])
        again += len(fetched) > len(job.names)
    assert again


def test_the_names_of_a_page_have_one_address():
    """The names of many processes share their first address."""
    first = {site.name: site.addresses[0] for site in SITES}
    several = [{first[name] for name in job.names} for job in jobs() if len(job.names) > 2]
    assert 0.25 < sum(len(addresses) == 1 for addresses in several) / len(several) < 0.75


def test_a_seed_draws_the_same_jobs():
    """A seed draws the same jobs again; another seed draws others."""
    assert jobs(connections=50) == jobs(connections=50) != jobs(seed=2, connections=50)
