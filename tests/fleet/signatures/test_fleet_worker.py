"""The worker of the signatures of the fleet: entries that come again, bad ones, and a store that is away.

Tests of dnstrail_fleet.signatures.worker, dnstrail_fleet.signatures.events, dnstrail_fleet.signatures.source.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from builders.fleet import NOON, entries, entry, row
from builders.fleet_company import Company, company
from dnstrail.bus import ZmqBus
from dnstrail.client import LookupClient
from dnstrail.errors import Unavailable
from dnstrail_fleet.log.contract import StreamEntry, StreamLag
from dnstrail_fleet.metrics import observe
from dnstrail_fleet.row import FleetEntry, encode_entry, read_entry
from dnstrail_fleet.signatures.builtin.fleet_address_differs import FleetAddressDiffers
from dnstrail_fleet.signatures.builtin.fleet_name_spread import FleetNameSpread
from dnstrail_fleet.signatures.builtin.fleet_new_domain import FleetNewDomain
from dnstrail_fleet.signatures.events import DNS_RELATION_NEW, DNS_RELATION_USED, FIELDS, events_of
from dnstrail_fleet.signatures.source import FleetDataSource


@pytest.fixture
def them() -> Iterator[Company]:
    """Return a company that reports each new domain."""
    with company(FleetNewDomain, learn=0) as found:
        yield found


def of(one: FleetEntry, late: int = 0) -> list[Any]:
    """Return the events of an entry that reached the engine so many ms later."""
    at = one.sent + late
    return [*events_of(StreamEntry(one.host, f"{at}-0", at, b""), read_entry(encode_entry(one), one.host, at, at))]


def test_an_event_states_the_relation_and_who_asked() -> None:
    """Question, owner, type and target, the host, the program and its container, and corrected times."""
    [event] = of(entry("web1", row("www.shop.example", owner="shop.example")), late=3_600_000)
    assert (event.event_name, event.host_name, event.origin) == (DNS_RELATION_NEW, "web1", "container")
    assert (event.executable.path, event.process_name, event.container_id) == ("/usr/bin/curl", "curl", "web")
    assert event.args == {
        "question": "www.shop.example",
        "owner": "shop.example",
        "type": "A",
        "target": "203.0.113.7",
        "first": NOON + 3600,
        "last": NOON + 3600,
        "count": 1,
        "doubted": 0,
        "used": 0,
    }
    assert [*event.args] == [field.name for field in FIELDS]
    assert event.timestamp == (NOON + 3600) * 1_000_000_000


def test_a_relation_that_the_host_sent_before_is_no_event() -> None:
    """Of several rows, those that are known are left out; the ids of the others do not depend on them."""
    rows = row("a.example", known=True), row("b.example")
    [event] = of(entry("web1", *rows))
    assert event.args["question"] == "b.example"
    assert event.id == of(entry("web1", row("a.example"), rows[1]))[1].id


@given(entries)
def test_all_events_of_an_entry_have_ids_of_their_own(one: FleetEntry) -> None:
    """An entry that comes again has events with the same ids, and no two events share one."""
    ids = [event.id for event in of(one)]
    assert ids == [event.id for event in of(one)]
    rows = [row for asker in one.askers for row in asker.rows]
    assert len({*ids}) == len(rows) + sum(row.used > 0 for row in rows)


def test_the_first_connection_of_a_row_is_an_event() -> None:
    """A connection leads to an event of its own, with its corrected time; a row with a later one to none."""
    rows = row("a.example", used=NOON + 5), row("b.example", known=True, used=NOON + 6)
    found = of(entry("web1", *rows, row(known=True, used=NOON + 9, reused=True)), late=3_600_000)
    assert [(one.event_name, one.args["question"], one.args["used"] - 3600 - NOON) for one in found] == [
        (DNS_RELATION_NEW, "a.example", 5),
        (DNS_RELATION_USED, "a.example", 5),
        (DNS_RELATION_USED, "b.example", 6),
    ]


def test_an_entry_that_comes_again_leads_to_the_same_finding(them: Company) -> None:
    """The finding comes again with its id, and to no second one: sinks drop it."""
    [first] = them.say("web1", row("a.example", "192.0.2.1"), row("a.example", "192.0.2.2"))
    [second] = them.again()
    assert first.id
    assert second.id == first.id


def test_bad_entries_are_acknowledged_and_lead_to_nothing(them: Company) -> None:
    """No MessagePack, another host's name, the year 2500, a later version: counted, and the next one is handled."""
    later = encode_entry(entry("web1")).replace(b"\xa1v\x02", b"\xa1v\x03")
    for body in (b"", b"\xc1", encode_entry(entry("web2", row())), encode_entry(entry("web1", row(), sent=1)), later):
        them.log.put("web1", body)
    assert them.step() == []
    assert len(them.say("web1", row())) == 1
    assert (them.worker.counters["refused"], them.worker.counters["entries"]) == (5, 6)
    assert len(them.log.done) == 6


def test_an_entry_waits_for_the_store(them: Company, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While no store answers, nothing is acknowledged, with one line in the log; afterwards nothing is missing."""
    with closing(ZmqBus()) as bus, closing(LookupClient(f"ipc://{tmp_path}/none", timeout=0.1, bus=bus)) as nobody:
        there, them.source._client = them.source._client, nobody
        assert them.say("web1", row()) == []
        assert them.again() == []
        them.source._client = there
    assert (them.worker.fault, them.log.done, them.worker.pause > 0) == ("store", set(), True)
    assert capsys.readouterr().out.count("fleet_not_read") == 1
    assert len(them.again()) == 1
    assert (them.worker.fault, len(them.log.done)) == ("", 1)


def test_a_finding_that_nobody_takes_comes_again(them: Company) -> None:
    """An entry is not acknowledged if a finding was not delivered."""
    them.worker._engine._sink = lambda _: setattr(them.delivery, "undelivered", 1)
    them.say("web1", row())
    assert (them.log.done, them.worker.counters["failures"]) == (set(), 1)


def test_the_engine_is_away(them: Company) -> None:
    """A failure of the engine has a reason, and ends by itself."""
    them.log.fault = "full"
    assert them.step() == []
    assert them.worker.fault == "full"
    them.log.fault = ""
    assert len(them.say("web1", row())) == 1
    assert them.worker.fault == ""


def test_an_absent_store_is_named_with_the_remedy(tmp_path: Path) -> None:
    """A lookup without a store names what to start."""
    with closing(ZmqBus()) as bus, closing(LookupClient(f"ipc://{tmp_path}/none", timeout=0.1, bus=bus)) as client:
        source = FleetDataSource(client)
        with pytest.raises(Unavailable):
            source.get("a.example")
        assert "dnstrail fleet store" in source.failed


def test_entries_stay_in_the_log_while_nobody_receives_findings(them: Company) -> None:
    """Nothing is read without a receiver; afterwards nothing is missing."""
    them.delivery._connected = lambda: False
    assert them.say("web1", row()) == []
    assert (them.worker.fault, them.log._next) == ("findings", 0)
    them.delivery._connected = lambda: True
    assert len(them.step()) == 1


def test_entries_that_nobody_read_are_counted(them: Company, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that the engine trimmed in this run count; those of before do not."""
    trimmed = 7
    them.log.lag = lambda: {"web1": StreamLag(0, trimmed), "web2": StreamLag(0, 1)}
    for expected in (0, 2, 2):
        them.step()
        assert them.worker.counters["trimmed"] == expected
        them.clock.advance(20)
        trimmed = 9
    assert capsys.readouterr().out.count("entries_not_read") == 1


def test_metrics_state_what_was_handled(them: Company) -> None:
    """The metrics hold the counters, and the entries that wait; the worker is unhealthy while the engine is away."""
    them.log.lag = lambda: {"web1": StreamLag(3, 0), "web2": StreamLag(4, 0)}
    them.say("web1", row())
    observed: list[Any] = []
    observe(lambda *given: observed.extend(given), them.worker)
    samples = [sample for one in observed[0]() for sample in one.samples]
    values = {(one.name, one.labels.get("outcome")): one.value for one in samples}
    assert values["dnstrail_fleet_signatures_total", "events"] == 1
    assert values["dnstrail_fleet_lag", None] == 7
    assert observed[1]() == ""
    them.log.fault = "away"
    them.step()
    assert observed[1]() == "away"


def test_names_of_strange_letters_are_names() -> None:
    """A row may hold any text of 1,024 letters: it is found as it is."""
    names = ["\N{GRINNING FACE}" * 1000 + ".example", "A b.example", "'); DROP TABLE rows; --.example"]
    with company(FleetNameSpread, hosts=2, learn=0) as them:
        assert them.say("web1", *map(row, names)) == []
        assert [one.data["name"] for one in them.say("web2", *map(row, names))] == names
        assert (len(them.log.done), them.worker.fault) == (2, "")


def test_a_subject_that_is_too_long_is_an_error_of_its_signature() -> None:
    """The claim is refused, which is counted; the entry does not come again, and the next one is handled."""
    with company(FleetAddressDiffers, hosts=1, learn=0) as them:
        assert them.say("web1", row("a.example")) == []
        long = row("b" * 1010 + ".example"), row("b.example")
        assert [one.data["domain"] for one in them.say("web2", *long)] == ["b.example"]
        assert (len(them.log.done), them.worker._engine.counters["errors"]) == (2, 1)
