"""Server names that clients sent, as of a time and within bounds."""

from __future__ import annotations

from collections import Counter

import pytest

from builders.dns_builders import SECOND, t
from builders.trail_helpers import Asked
from dnstrail.image import ServerNameSighting
from dnstrail.image.trails.server_names import MAX_NAMES, MAX_NAMES_OF_ADDRESS, SeenServerName, ServerNameTable

ADDRESS = "1.1.1.1"


@pytest.fixture
def names():
    return ServerNameTable(Counter())


def sighting(stamp, name="a", client="10.0.0.2", port=443, evidence="sni"):
    return ServerNameSighting(round(stamp * SECOND), name, evidence, client, port)


def test_names_have_their_evidence(names):
    """Each name and evidence is listed apart, with first and last time and count, the last seen first."""
    for one in (sighting(1.0), sighting(2.0, "b"), sighting(3.0), sighting(2.5, evidence="host", port=80)):
        names.note(ADDRESS, one)
    assert names.of(ADDRESS, 9 * SECOND) == [
        SeenServerName("a", "sni", 1.0, 3.0, 2),
        SeenServerName("a", "host", 2.5, 2.5, 1),
        SeenServerName("b", "sni", 2.0, 2.0, 1),
    ]
    assert names.of("1.1.1.2", 9 * SECOND) == []


def test_only_earlier_sightings_are_reported(names):
    """Only sightings before the given time are reported."""
    for stamp in (1.0, 2.0, 3.0):
        names.note(ADDRESS, sighting(stamp))
    assert names.of(ADDRESS, 2 * SECOND) == [SeenServerName("a", "sni", 1.0, 1.0, 1)]
    assert names.last(ADDRESS, None, None, 3 * SECOND) == {"a": 2 * SECOND}
    assert names.last(ADDRESS, None, None, SECOND) == {}


@pytest.mark.parametrize(
    ("client", "port", "last"),
    [
        (None, None, {"a": 3, "b": 4}),
        ("10.0.0.2", None, {"a": 3}),
        ("10.0.0.2", 80, {"a": 1}),
        (None, 443, {"a": 3, "b": 4}),
        ("10.0.0.3", 443, {"b": 4}),
        ("10.0.0.4", 443, {}),
        ("10.0.0.3", 80, {}),
    ],
)
def test_the_last_sighting_is_by_client_and_port(names, client, port, last):
    """The last sighting of a name is found for one client and port, or for any."""
    for one in (sighting(1.0, port=80), sighting(3.0), sighting(2.0), sighting(4.0, "b", "10.0.0.3")):
        names.note(ADDRESS, one)
    assert names.last(ADDRESS, client, port, 9 * SECOND) == {name: at * SECOND for name, at in last.items()}


def test_sightings_of_an_address_are_bounded(names):
    """Beyond the bound of one address, its oldest sightings are evicted and counted."""
    for number in range(MAX_NAMES_OF_ADDRESS + 3):
        names.note(ADDRESS, sighting(float(number), f"n{number}"))
    assert {one.name for one in names.of(ADDRESS, 999 * SECOND)} == {
        f"n{number}" for number in range(3, MAX_NAMES_OF_ADDRESS + 3)
    }
    assert (len(names), names.counters["evicted_server_names"]) == (MAX_NAMES_OF_ADDRESS, 3)


def test_sightings_are_bounded(names):
    """Beyond the bound on all sightings, the sightings of the least recently named address are evicted and counted."""
    names.note("first", sighting(0.0))
    names.note("second", sighting(0.0))
    for number in range(MAX_NAMES - 1):
        names.note(f"address {number}", sighting(1.0))
        if number == 0:
            names.note("first", sighting(1.0))
    assert len(names) == MAX_NAMES
    assert (len(names.of("first", 9 * SECOND)), len(names.of("second", 9 * SECOND))) == (1, 0)
    assert names.counters["evicted_server_names"] == 2


def test_server_names_are_no_trails():
    """An address without DNS answers has its server names beside the trails, but no trail and no lookup result."""
    asked = Asked()
    asked.image.note_server_name(ADDRESS, ServerNameSighting(t(1), "www.a", "sni", "10.0.0.2", 443))
    found = asked.trails(ADDRESS, 2)
    assert (found.trails, found.scope, [one.name for one in found.server_names]) == ([], "any", ["www.a"])
    assert asked.image.get(ADDRESS, now=t(2)) is None
    assert asked.find(ADDRESS, 1) is None
