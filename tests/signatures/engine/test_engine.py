"""The engine: which signatures receive an event, and what an error of one of them does."""

from __future__ import annotations

import json
import re
from asyncio import CancelledError
from collections import Counter, defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from builders.interpreted import INTERPRETED
from dnstrail.captured import Captured, Process
from dnstrail.datasource import DataSources
from dnstrail.errors import DataSourceMissing, SettingsError
from dnstrail.events import FACTS_UNWRITTEN, LOSS_REASONS, NET_PACKET_DNS, SCHED_PROCESS_EXEC, SCHED_PROCESS_EXIT, Event
from dnstrail.signature import EventSelector, Signal, Signature, SignatureMetadata
from dnstrail_signatures.detection.stateful_signature import StatefulSignature
from dnstrail_signatures.engine.engine import MAX_DEPTH, Engine, all_losses
from dnstrail_signatures.loading.signature_settings import SignatureSettings

IN_CONTAINER = Process(1, "nginx", container_id="c0ffee")


def made(event_name, *selectors, **methods):
    """Return a signature class that notes what it receives."""
    namespace = {
        "metadata": SignatureMetadata(f"id-{event_name}", "1", event_name.title(), event_name),
        "selected_events": tuple(EventSelector(**selector) for selector in selectors),
        "noted": [],
        "on_event": lambda self, event: self.noted.append(event),
        "on_signal": lambda self, signal: self.noted.append(signal),
        "close": lambda self: self.noted.append("closed"),
        **methods,
    }
    return type(event_name.title(), (Signature,), namespace)


def raising(*_arguments):
    raise ValueError("on purpose")


RAISES_AT = raising.__code__.co_firstlineno + 1


def event(name=NET_PACKET_DNS, process=None):
    return Event(name, Captured(7, process=process), mark=("start", 3), host_name="host")


@pytest.fixture
def found():
    return []


@pytest.fixture
def engine(found):
    """Return an engine over signature classes."""
    return lambda *classes: Engine(classes, DataSources(), found.append)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"name": NET_PACKET_DNS}, [True, False, True, False]),
        ({"name": "*"}, [True] * 4),
        ({}, [True] * 4),
        ({"name": "*", "origin": "container"}, [False, False, True, True]),
        ({"name": SCHED_PROCESS_EXIT, "origin": "host"}, [False, True, False, False]),
        ({"name": "net_packet"}, [False] * 4),
        ({"name": "", "origin": ""}, [True] * 4),
        ({"source": "tracee"}, [True] * 4),
        ({"source": "*"}, [True] * 4),
        ({"source": "falco"}, [False] * 4),
        ({"source": "falco", "name": NET_PACKET_DNS}, [False] * 4),
    ],
    ids=[
        "a name",
        "any name",
        "all",
        "containers",
        "the host",
        "a prefix",
        "no name",
        "our source",
        "any source",
        "another source",
        "a name of another source",
    ],
)
def test_a_selector_selects_by_source_name_and_origin(engine, selector, selected):
    """A signature receives the events that match source, name and origin; a prefix is not a name."""
    signature = made("a", selector)
    running = engine(signature)
    events = [event(name, process) for process in (None, IN_CONTAINER) for name in (NET_PACKET_DNS, SCHED_PROCESS_EXIT)]
    for each in events:
        running.on_event(each)
    assert signature.noted == [each for each, chosen in zip(events, selected, strict=True) if chosen]
    assert running.counters == {"events": 4}


def test_an_event_is_received_once(engine):
    """A signature receives an event once if several selectors match it, and none without selectors."""
    twice, none = made("a", {}, {"name": NET_PACKET_DNS}), made("b")
    engine(twice, none).on_event(event())
    assert (len(twice.noted), none.noted) == (1, [])


def test_signatures_receive_an_event_in_the_order_in_which_they_started(engine):
    """A signature that selects any event and one that selects this event keep their order."""
    order = []
    classes = [
        made(name, selector, on_event=lambda self, event: order.append(self.metadata.event_name))
        for name, selector in (("a", {"name": NET_PACKET_DNS}), ("b", {}), ("c", {"name": NET_PACKET_DNS}), ("d", {}))
    ]
    running = engine(*classes)
    running.on_event(event())
    running.on_event(event(SCHED_PROCESS_EXEC))
    assert order == ["a", "b", "c", "d", "b", "d"]


def test_the_selectors_are_asked_once_for_a_kind_of_event(engine, monkeypatch):
    """The signatures that select an event are remembered by its name and origin."""
    running = engine(*(made(f"S{number}", {"name": SCHED_PROCESS_EXIT}) for number in range(50)))
    running.on_event(event(NET_PACKET_DNS))
    monkeypatch.setattr(EventSelector, "selects", raising)
    running.on_event(event(NET_PACKET_DNS))
    assert running.counters == {"events": 2}


@pytest.mark.parametrize("fault", [SystemExit, CancelledError, BaseException])
def test_whatever_a_signature_raises_ends_nothing(engine, fault):
    """An exception that is no error in Python, as libraries raise for bad input, ends neither worker nor others."""

    def on_event(self, event):
        raise fault("on purpose")

    after = made("after", {})
    running = engine(made("bad", {}, on_event=on_event), after)
    running.on_event(event())
    assert (running.errors, len(after.noted)) == ({"bad": 1}, 1)


def test_a_fault_that_is_no_text_is_shown_as_one(engine):
    """A signature may give the error itself as its fault: the worker shows its text."""
    running = engine(made("bad", {}, on_event=lambda self, event: setattr(self, "fault", ValueError("on purpose"))))
    running.on_event(event())
    assert running.faults == {"bad": "on purpose"}


class Textless(Exception):
    """An error whose text raises another one."""

    def __str__(self):
        raise ValueError("on purpose")


def textless(*given):
    """Raise an error without a text."""
    raise Textless


def test_an_error_without_a_text_ends_nothing(engine):
    """An error whose text raises, too, is counted and logged by its type, wherever it comes from."""
    with capture_logs() as logs:
        running = engine(
            made("bad", {}, on_event=textless, on_signal=textless), made("left out", {}, init=textless), made("a", {})
        )
        running.on_event(event())
        running.adopt(running.prepare([type(one) for one in running.signatures], defaultdict(SignatureSettings)))
    assert running.errors == {"bad": 2}
    assert [one["error"] for one in logs[:2]] == ["its text cannot be had", "Textless: its text cannot be had"]
    assert running.faults["bad"] == "its text cannot be had"
    running.signatures[-1].fault = Textless()
    assert running.faults["a"] == "its text cannot be had"


def test_an_error_in_the_tables_of_a_signature_ends_nothing(engine):
    """A signature with state that lacks its tables has an error, and the others are counted."""
    running = engine(made("bad", {}))
    running.signatures.append(type("Bad", (StatefulSignature,), {"metadata": running.signatures[0].metadata})())
    assert running.evicted == {}
    assert running.errors == {"bad": 1}


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("on_event", lambda engine: engine.on_event(event())),
        ("on_signal", lambda engine: engine.on_signal(Signal("source_complete"))),
        ("close", lambda engine: engine.close()),
    ],
    ids=["on_event", "on_signal", "close"],
)
def test_an_error_is_counted_and_logged_once_and_the_others_go_on(engine, method, call):
    """An error in a signature is counted by its id and logged once with file and line; the others are called."""
    before, bad, after = made("before", {}), made("bad", {}, **{method: raising}), made("after", {})
    running = engine(before, bad, after)
    with capture_logs() as logs:
        call(running)
        call(running)
    assert len(before.noted) == len(after.noted) == 2
    assert running.counters["errors"] == 2
    assert running.errors == {"bad": 2}
    assert logs == [
        {
            "event": "signature_failed",
            "signature": "bad",
            "error": "ValueError: on purpose",
            "at": f"{__file__}:{RAISES_AT}",
            "log_level": "error",
        }
    ]


def test_the_place_of_an_error_is_in_the_file_of_the_signature(engine):
    """An error that a library raises is logged at the line of the signature that called the library."""
    bad = made("bad", {}, on_event=lambda self, event: json.loads("no JSON"))
    with capture_logs() as logs:
        engine(bad).on_event(event())
    assert re.fullmatch(re.escape(__file__) + r":\d+", logs[0]["at"])


def test_another_error_of_a_signature_is_logged_too(engine):
    """Each place at which a signature fails is logged once."""

    def on_event(self, event):
        if event.event_name == NET_PACKET_DNS:
            raise ValueError("one")
        raise ValueError("two")

    running = engine(made("bad", {}, on_event=on_event))
    with capture_logs() as logs:
        for _ in range(3):
            running.on_event(event(NET_PACKET_DNS))
            running.on_event(event(SCHED_PROCESS_EXEC))
    assert [entry["error"] for entry in logs] == ["ValueError: one", "ValueError: two"]
    assert running.errors == {"bad": 6}


@pytest.mark.parametrize("method", ["init", "__init__"])
def test_a_signature_that_does_not_start_is_left_out(engine, method):
    """A signature that raises at its start is counted, logged and never called; the others run."""
    with capture_logs() as logs:
        bad, good = made("bad", {}, **{method: raising}), made("good", {})
        running = engine(bad, good)
    running.on_event(event())
    running.close()
    assert [type(signature) for signature in running.signatures] == [good]
    assert (bad.noted, len(good.noted)) == ([], 2)
    assert running.counters["not_started"] == 1
    assert running.faults == {"bad": "signature bad (id-bad) does not start: ValueError: on purpose"}
    assert logs == [
        {
            "event": "signature_not_started",
            "signature": "Bad",
            "error": "on purpose",
            "at": f"{__file__}:{RAISES_AT}",
            "log_level": "error",
        }
    ]


def test_a_signature_that_was_asked_for_starts_or_ends_the_worker(found):
    """A signature that does not start is an error if a user asked for it, or if it refuses its settings."""

    def refuse(*_arguments):
        raise SettingsError("no list")

    bad, wrong = made("bad", {}, init=raising), made("wrong", {}, init=refuse)
    with pytest.raises(SettingsError, match=r"bad \(id-bad\) does not start: ValueError: on purpose"):
        Engine([bad], DataSources(), found.append, asked={bad})
    with pytest.raises(SettingsError, match=r"wrong \(id-wrong\) does not start: no list"):
        Engine([wrong], DataSources(), found.append)


def test_a_signature_that_lacks_its_data_source_has_no_fault(engine):
    """A run without a cache leaves out the signatures that need it, unless a user asked for them."""

    def need(*_arguments):
        raise DataSourceMissing("tracee", "dns")

    running = engine(made("needy", {}, init=need), made("good", {}))
    assert (len(running.signatures), running.faults) == (1, {})


def test_a_class_without_metadata_is_left_out(engine):
    """A signature without metadata does not start."""
    nameless = type("Nameless", (Signature,), {"selected_events": (EventSelector(),)})
    running = engine(nameless, made("good"))
    assert (len(running.signatures), running.counters["not_started"]) == (1, 1)


def test_a_signature_receives_its_context():
    """At its start a signature receives the data sources of the run, None for others, and a logger with its id."""

    class Source:
        def namespace(self):
            return "tracee"

        def id(self):
            return "dns"

    def init(self, ctx):
        self.noted.extend([ctx.get_data_source("tracee", "dns"), ctx.get_data_source("tracee", "other")])
        ctx.logger.info("started")

    source = Source()
    signature = made("a", init=init)
    with capture_logs() as logs:
        Engine([signature], DataSources(source), [].append)
    assert signature.noted == [source, None]
    assert logs == [{"event": "started", "signature": "a", "log_level": "info"}]


def test_a_signal_reaches_all(engine):
    """Every signature receives every signal, whatever it selects."""
    one, two = made("a"), made("b", {})
    engine(one, two).on_signal(Signal("source_complete"))
    assert one.noted == two.noted == [Signal("source_complete", "tracee")]


def test_a_finding_reaches_the_sink_and_the_signatures_that_select_it(engine, found):
    """A finding is also an event that other signatures select by its name and read by its data."""
    first = made("FIRST", {"name": NET_PACKET_DNS}, on_event=lambda self, event: self.report(event, depth=1))
    second = made("SECOND", {"name": "FIRST"})
    running = engine(second, first)
    cause = event(process=IN_CONTAINER)
    running.on_event(cause)
    (finding,) = found
    assert (finding.data, finding.event, finding.metadata) == ({"depth": 1}, cause, first.metadata)
    (derived,) = second.noted
    assert (derived.event_name, derived.arg("depth"), derived.mark) == ("FIRST", 1, cause.mark)
    assert (derived.timestamp, derived.process, derived.host_name) == (7, IN_CONTAINER, "host")
    assert running.counters == {"events": 2, "findings": 1}


def test_findings_that_lead_to_findings_end(engine, found):
    """A signature that selects its own findings is stopped at a depth and counted; the next event starts anew."""
    endless = made("ENDLESS", {}, on_event=lambda self, event: self.report(event, of=event.event_name))
    running = engine(endless)
    for _ in range(2):
        found.clear()
        running.on_event(event(SCHED_PROCESS_EXEC))
        assert [finding.data["of"] for finding in found] == [SCHED_PROCESS_EXEC, *["ENDLESS"] * MAX_DEPTH]
    assert running.counters["too_deep"] == 2
    assert running.counters["errors"] == 0


def test_depth_is_forgotten_after_an_error(engine, found):
    """The depth is restored after an error of a signature that handles a finding."""
    reports = made("A", {"name": NET_PACKET_DNS}, on_event=lambda self, event: self.report(event))
    fails = made("B", {"name": "A"}, on_event=raising)
    running = engine(reports, fails)
    for _ in range(3 * MAX_DEPTH):
        running.on_event(event())
    assert (running.counters["errors"], running.counters["too_deep"]) == (3 * MAX_DEPTH, 0)
    assert len(found) == 3 * MAX_DEPTH


def test_a_finding_that_cannot_be_delivered_is_an_error_of_its_signature(engine):
    """A sink that raises is counted as an error of the signature, and the others go on."""
    reports = made("a", {}, on_event=lambda self, event: self.report(event))
    after = made("b", {"name": NET_PACKET_DNS})
    running = Engine([reports, after], DataSources(), raising)
    running.on_event(event())
    assert running.counters["errors"] == 1
    assert len(after.noted) == 1


def test_a_finding_on_a_finding_has_the_time_of_the_event(engine):
    """The difference to wall time is added once, however many findings lie between."""
    first = made("FIRST", {"name": NET_PACKET_DNS}, on_event=lambda self, event: self.report(event))
    second = made("SECOND", {"name": "FIRST"})
    engine(first, second).on_event(Event(NET_PACKET_DNS, Captured(7), difference=5))
    assert [event.timestamp for event in second.noted] == [12]


def test_findings_on_a_finding_that_comes_again_keep_their_ids(engine, found):
    """When an event is handled again, all findings that it leads to have the ids that they had."""
    first = made("FIRST", {"name": NET_PACKET_DNS}, on_event=lambda self, event: self.report(event))
    second = made("SECOND", {"name": "FIRST"}, on_event=lambda self, event: self.report(event))
    running, cause = engine(first, second), replace(event(), place=(NET_PACKET_DNS, 1, 0))
    for _ in range(2):
        running.repeat(cause)
        running.on_event(cause)
    ids = [one.id for one in found]
    assert (ids[:2], len({*ids})) == (ids[2:], 2)


@INTERPRETED
def test_every_loss_of_a_worker_is_known_to_the_cache():
    """Each reason that a worker reports is one that the cache accepts."""
    engine = SimpleNamespace(
        counters=Counter(errors=1, refused_events=6),
        budget=SimpleNamespace(missed=Counter(a=2)),
        unavailable=Counter(a=3),
    )
    lost = all_losses({NET_PACKET_DNS: 1}, engine, unnamed=4, undelivered=5)
    assert lost.pop(NET_PACKET_DNS) == 1
    assert set(lost) == {*LOSS_REASONS} - {FACTS_UNWRITTEN}  # which the history alone has
