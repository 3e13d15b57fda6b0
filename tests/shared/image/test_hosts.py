"""Several hosts: their sockets and their addresses are not mistaken for each other."""

from __future__ import annotations

from collections import Counter

import pytest

from builders.dns_builders import t
from builders.talk import ADDRESSED, OWN, SERVERS, Talk, answer, back, query
from dnstrail.image import Circumstances
from dnstrail.image.binding.processes import Processes
from dnstrail.image.parties import Doubts


@pytest.mark.parametrize("flow", [OWN, SERVERS, ADDRESSED], ids=["client", "server", "address"])
def test_a_response_matches_a_query_of_its_own_host(flow):
    """The same cookie, namespace and address on another host are another socket."""
    talk = Talk("reject")

    def feed(host, payload, way, after):
        return talk.image.feed(t(after), payload, Circumstances(way, None, live=True, host=host))

    for host in ("one", "two"):
        feed(host, query(), flow, 0)
    assert talk.waiting == 2
    assert not feed("three", answer("192.0.2.3"), back(flow), 0.01).admitted
    assert [feed(host, answer(f"192.0.2.{n}"), back(flow), 0.02).admitted for n, host in enumerate(("one", "two"))] == [
        True,
        True,
    ]


def test_hosts_whose_doubt_has_passed_make_room() -> None:
    """Beyond the bound all hosts are in doubt, but hosts that lost events long ago do not count."""
    doubts = Doubts(Counter(), 3)
    for number, host in enumerate("abc"):
        doubts.note_all(t(number), host)
    party = (("other", "", 0, 0), True)
    doubts.note_all(t(31.5), "d")  # the doubts of a and b have passed
    doubts.note_all(t(31.5), "e")
    assert not doubts.is_doubted(party, t(31.5))
    doubts.note_all(t(31.5), "f")
    assert doubts.is_doubted(party, t(31.5))


def test_a_host_that_is_gone_makes_room_in_the_search_for_a_pid() -> None:
    """A pid without a host is searched among the hosts that have processes now."""
    processes = Processes(4, 2, Counter())
    for number in range(50):
        processes.note((f"host{number}", 7, 100 + number), t(number))
        processes.note((f"host{number}", 8, 100 + number), t(number))
    assert processes.starts_of(7, t(60)) == {148, 149}
    assert len(processes._hosts) == 2
