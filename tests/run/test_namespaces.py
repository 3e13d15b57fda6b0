"""The network namespaces whose resolvers a run knows, on real namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail_run import namespaces
from dnstrail_run.namespaces import named_namespaces, namespaces_of, own_namespace
from live.namespaces import SERVER, Hosts, hosts, live_or_skip

LISTED = {ip_address("192.0.2.53").packed: "192.0.2.53"}


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Yield a client with a resolv.conf of its own, and a server without one."""
    live_or_skip()
    with hosts() as both:
        yield both


def test_a_named_namespace_has_the_resolvers_of_its_file(network):
    """A namespace has the resolvers of its file below /etc/netns, else those of this process, and an own cookie."""
    found = {Path(one.path).name: one for one in named_namespaces()}
    client, server, own = found[network.client], found[network.server], own_namespace()
    assert [*client.resolvers.values()] == [SERVER]
    assert server.resolvers == own.resolvers
    assert len({client.cookie, server.cookie, own.cookie, 0}) == 4


def test_the_resolvers_of_a_list_serve_every_namespace(network):
    """The own namespace is the first, and the resolvers of the list are in all."""
    first, *others = namespaces_of(LISTED)
    assert first.cookie == own_namespace().cookie
    assert {Path(one.path).name for one in others} >= {network.client, network.server}
    assert all(LISTED.items() <= one.resolvers.items() for one in (first, *others))


def test_namespaces_and_resolvers_are_bounded(network, monkeypatch):
    """Beyond the bound a namespace without a resolv.conf of its own is left out first, and the last resolvers are."""
    text = "".join(f"nameserver 10.9.8.{last}\n" for last in range(1, 9))
    (Path("/etc/netns") / network.client / "resolv.conf").write_text(text)
    count = len(
        [one for one in Path("/run/netns").iterdir() if (Path("/etc/netns") / one.name / "resolv.conf").exists()]
    )
    monkeypatch.setattr(namespaces, "MOST_NAMESPACES", 1 + count)
    monkeypatch.setattr(namespaces, "MOST_RESOLVERS", 3)
    found = {Path(one.path).name: one for one in namespaces_of({})}
    assert [*found[network.client].resolvers.values()] == ["10.9.8.1", "10.9.8.2", "10.9.8.3"]
    assert network.server not in found


def test_no_listed_resolver_is_left_out(network, monkeypatch):
    """The resolvers of the list come before those of the files; more of them than the bound are refused."""
    monkeypatch.setattr(namespaces, "MOST_RESOLVERS", 1)
    assert all([*one.resolvers] == [*LISTED] for one in namespaces_of(LISTED))
    with pytest.raises(SettingsError, match="the list has 2 entries `resolver`; 1 at most"):
        namespaces_of({**LISTED, ip_address("192.0.2.54").packed: "192.0.2.54"})


def test_a_name_without_a_namespace_is_left_out(tmp_path, monkeypatch):
    """A file that is no namespace, and a folder that is not there, cost nothing."""
    (tmp_path / "stale").touch()
    for folder in (tmp_path, tmp_path / "missing"):
        monkeypatch.setattr(namespaces, "_NAMED", folder)
        assert [*named_namespaces()] == []
