"""The signatures that ship with dnstrail, over a data source that answers from a map."""

from __future__ import annotations

import pytest

from builders.costly import COSTLY, calls_in
from dnstrail.captured import Captured, Process
from dnstrail.datasource import DataSources
from dnstrail.dns.names import lookup_key
from dnstrail.errors import DataNotFound, Unavailable
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXEC, SCHED_PROCESS_EXIT, Event
from dnstrail.testing import dns_query
from dnstrail_signatures.builtin.dns_rare_type import DnsRareType, DnsRareTypeSettings
from dnstrail_signatures.builtin.e2e_dns_data_source import E2eDnsDataSource
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.load import find, load

ADDRESSES = ["192.0.2.1"]


class Known:
    """A data source that answers from a map, and raises the errors in it."""

    def __init__(self, **known):
        self.known = known
        self.asked = []

    def get(self, key):
        self.asked.append(key)
        answer = self.known.get(lookup_key(key), DataNotFound(key))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def namespace(self):
        return "tracee"

    def id(self):
        return "dns"


def answer(addresses, names):
    return {"ip_addresses": addresses, "dns_queries": names, "dns_root": names[0] if names else ""}


def engine(signature, known, **options):
    found = []
    return Engine([signature], DataSources(known), found.append, **options), found


def exited(path="/usr/bin/ping", name=SCHED_PROCESS_EXIT, container=""):
    return Event(name, Captured(1, process=Process(2, "ping", path, container_id=container)), ("s", 1))


@pytest.mark.parametrize(
    ("google", "reported", "unavailable"),
    [
        (answer(ADDRESSES, ["google.com"]), True, 0),
        (answer(ADDRESSES, ["google.com", "www.google.com"]), True, 0),
        (answer(ADDRESSES, ["www.google.com", "google.com"]), False, 0),
        (answer([], ["google.com"]), False, 0),
        (answer(ADDRESSES, []), False, 0),
        (answer([], []), False, 0),
        (DataNotFound("google.com"), False, 0),
        (Unavailable("ipc:///x", 1.0), False, 1),
    ],
    ids=["known", "heads others", "not at the head", "no address", "no name", "neither", "not found", "no cache"],
)
def test_a_ping_needs_google(google, reported, unavailable):
    """The ping is reported if google.com has addresses and is the first of its names; a missing cache is counted."""
    running, found = engine(E2eDnsDataSource, Known(**{"google.com": google}))
    running.on_event(exited())
    assert (len(found), running.counters["unavailable"], running.counters["errors"]) == (reported, unavailable, 0)


def test_the_content_of_the_ping_finding():
    """The finding has tracee's name and no data of its own; the exit of ping led to it."""
    running, found = engine(E2eDnsDataSource, Known(**{"google.com": answer(ADDRESSES, ["google.com"])}))
    event = exited(container="c0ffee")
    running.on_event(event)
    assert [(finding.metadata.event_name, finding.data, finding.event) for finding in found] == [
        ("DNS_DATA_SOURCE", {}, event)
    ]


@pytest.mark.parametrize(
    "event",
    [exited("/usr/bin/pong"), exited("/bin/ping"), exited(""), exited(name=SCHED_PROCESS_EXEC)],
    ids=["another program", "another path", "no path", "another event"],
)
def test_only_the_exit_of_ping_counts(event):
    """Other programs and other events cause no lookup."""
    known = Known(**{"google.com": answer(ADDRESSES, ["google.com"])})
    running, found = engine(E2eDnsDataSource, known)
    running.on_event(event)
    assert (found, known.asked) == ([], [])


def test_without_its_data_source_it_does_not_start():
    """A signature that needs the data source does not start without it."""
    running = Engine([E2eDnsDataSource], DataSources(), [].append)
    assert (running.signatures, running.counters["not_started"]) == ([], 1)


def test_a_worker_reports_what_signatures_evicted():
    """The entries that a signature gave up at a bound are in the metrics, by its name."""
    cls = type("Small", (DnsRareType,), {"settings": DnsRareTypeSettings(subjects=3)})
    running, _ = engine(cls, Known())
    assert running.evicted == {}
    for place in range(10):
        running.on_event(dns_query(f"t{place}.com NULL"))
    assert running.evicted == {"DNS_RARE_TYPE": 7}


@pytest.mark.parametrize("payload", COSTLY.values(), ids=COSTLY)
def test_the_work_of_all_signatures_is_linear_in_the_size_of_a_message(payload):
    """All built-in signatures together cost a few calls for each byte of a message of a stranger."""
    running = Engine([cls for cls in load(find()) if cls is not E2eDnsDataSource], DataSources(Known()), [].append)
    event = Event(NET_PACKET_DNS, Captured(1, payload), ("s", 1))
    assert calls_in(lambda: running.on_event(event)) < 8 * len(payload) + 2000
    assert running.counters["errors"] == 0
