"""Several hosts: their sockets and their addresses are not mistaken for each other."""

from __future__ import annotations

import pytest

from builders.dns_builders import t
from builders.talk import ADDRESSED, OWN, SERVERS, Talk, answer, back, query
from dnstrail.image import Circumstances


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
