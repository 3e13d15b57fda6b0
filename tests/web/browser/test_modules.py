"""Modules of the page, without a view: the facts of Now, exports, mutes, and the pace of requests."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

FACTS = """async ([entries, open, again]) => {
    const { Facts } = await import('/static/js/now/facts.js');
    const { Tree, GROUPS } = await import('/static/js/now/tree.js');
    const facts = new Facts(100);
    const tree = new Tree(GROUPS.process);
    facts.project(tree, () => true);
    const seen = [];
    const note = () => seen.push([facts.size, tree.root.connections, tree.root.running, tree.root.sent]);
    facts.addConnections(entries);
    note();
    facts.addOpen(open);
    note();
    facts.addConnections(again);
    facts.addOpen(open);
    note();
    return seen;
}"""
LATE = """async ([live, past]) => {
    const { Facts } = await import('/static/js/now/facts.js');
    const { List } = await import('/static/js/now/list.js');
    const facts = new Facts(4);
    const list = new List();
    facts.project(list, () => true);
    for (const some of [live, past]) facts.addQuestions(some);
    return [list.rows().map((fact) => fact.name), facts.since];
}"""
BATCHES = """async (batches) => {
    const { Facts } = await import('/static/js/now/facts.js');
    const { List } = await import('/static/js/now/list.js');
    const facts = new Facts(4);
    const list = new List();
    facts.project(list, () => true);
    return batches.map((some) => {
        facts.addQuestions(some);
        return [list.rows().map((fact) => fact.time), list.size, facts.left];
    });
}"""
CSV = """async ([columns, rows]) => (await import('/static/js/export.js')).csvLines(columns, rows).join('')"""
MUTE_OF = """async ([mute, finding]) => {
    const { findings } = await import('/static/js/findings/state.js');
    findings.mutes = [{ event: 'E', until: Date.now() / 1000 + 60, process: '', ...mute }];
    return Boolean(findings.muteOf({ eventName: 'E', ...finding }));
}"""
POLL = """async () => {
    const { poll } = await import('/static/js/pace.js');
    const pause = (ms) => new Promise((next) => setTimeout(next, ms));
    let running = 0;
    let most = 0;
    let calls = 0;
    let last;
    const ended = new Promise((done) => {
        const end = poll(async (signal) => {
            last = signal;
            running += 1;
            most = Math.max(most, running);
            await pause(30);
            running -= 1;
            calls += 1;
            if (calls === 5) setTimeout(() => (end(), done()));
        }, 1);
    });
    await ended;
    const after = calls;
    await pause(100);
    return [most, calls - after, last.aborted];
}"""
BUCKETS = """async ([data, key]) => {
    const { bucketRows, rowsOf } = await import('/static/js/health/buckets.js');
    return [bucketRows(data, 'resolvers', key), rowsOf(data, 'resolvers', { by: 'key', down: false })];
}"""
GRAPH = """async (hosts) => {
    const { graphOf } = await import('/static/js/trail/graph.js');
    const step = { owner: 'a.example', target: '10.0.0.1', kind: 'A' };
    const trail = { dns_root: 'a.example', asked: [], steps: [step], state: 'live' };
    const { nodes, links } = graphOf('10.0.0.1', [trail], [], hosts);
    const shown = nodes.filter((one) => one.kind === 'host');
    const [fold] = nodes.filter((one) => one.of === 'host');
    const to = links.filter((link) => link.kind !== 'A').map((link) => link.to);
    return [shown.map((one) => one.label), fold.folded, [...new Set(to)]];
}"""
MOMENT = """async ([text, now]) => {
    const time = (await import('/static/js/times.js')).moment(text, now);
    return Number.isNaN(time) ? "no time" : time;
}"""
FILTER = """async ([text, name]) => {
    const { matcher, parseFilter } = await import('/static/js/now/filter.js');
    const { options, wrong } = parseFilter(text);
    return wrong.length ? wrong : matcher(options)({ name, entry: {} });
}"""
SECOND = 1_000_000_000
NOW = datetime(2026, 11, 2, 15, 0, 30).astimezone()


def stage(name, number, at, port=40_000, lasted=0, **others):
    """Return a stage of a connection; times are in seconds."""
    ends = {"host": "h", "transport": "tcp", "src": "10.0.0.1", "src_port": port, "dst": "10.0.0.2", "dst_port": 443}
    lives = {"lasted": lasted * SECOND} if lasted else {}
    identity = f"start/net_tcp_connect/1/{number}/{name}"
    return {
        "timestamp": str(at * SECOND),
        "id": identity,
        "stage": name,
        "process_name": "p",
        **ends,
        **lives,
        **others,
    }


def held_open(at, port=40_000):
    """Return a connection as the cache states an open one."""
    ends = {"host": "h", "transport": "tcp", "client": "10.0.0.1", "client_port": port, "address": "10.0.0.2"}
    return {**ends, "port": 443, "process_name": "p", "since": at, "rivals": [], "connected": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1h", NOW - timedelta(hours=1)),
        ("-2h30m", NOW - timedelta(hours=2, minutes=30)),
        ("-1d2h3m4s", NOW - timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("14:00", NOW.replace(hour=14, second=0)),
        ("today 9:30", NOW.replace(hour=9, minute=30, second=0)),
        ("yesterday 16:00:05", NOW.replace(day=1, hour=16, second=5)),
        ("2026-11-01T12:00:02.123456Z", datetime(2026, 11, 1, 12, 0, 2, 123456, UTC)),
        ("2026-11-01T13:00:02+01:00", datetime(2026, 11, 1, 12, 0, 2, 0, UTC)),
        ("2026-11-01 12:00:02", NOW.replace(day=1, hour=12, second=2)),
        ("2026-11-01", NOW.replace(day=1, hour=0, second=0)),
        *((text, datetime(2026, 11, 1, 12, 0, 2, 0, UTC)) for text in ("1793534402", "1793534402000")),
        *((text, datetime(2026, 11, 1, 12, 0, 2, 0, UTC)) for text in ("1793534402000000", "1793534402000000000")),
    ],
)
def test_a_time_in_the_address_is_read_as_on_the_command_line(seen, text, expected):
    """Each form of a time that the command line takes names the same time in the address of the page."""
    found = seen.open("/new").evaluate(MOMENT, [text, NOW.timestamp()])
    assert found == pytest.approx(expected.timestamp(), abs=1e-6, rel=0)


@pytest.mark.parametrize(
    "text",
    ["yesterdy", "-", "-2x", "yesterday", "25:00", "15:01", "1 July", "1" * 30, "99999999999", "2026-13-01T00:00:00Z"],
)
def test_a_text_that_is_no_time_is_not_taken_for_now(seen, text):
    """A text that is no time, or one out of range, is not a number; without a text there is no time."""
    page = seen.open("/new")
    assert page.evaluate(MOMENT, [text, NOW.timestamp()]) == "no time"
    assert page.evaluate(MOMENT, ["", NOW.timestamp()]) is None


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("name:b\u00fccher.example", "xn--bcher-kva.example", True),
        ("name:B\u00dcCHER.example.", "xn--bcher-kva.example", True),
        ("name:b\u00fccher.example", "bucher.example", False),
        ("name:_dmarc.example", "_dmarc.example", True),
        ("slower:1h", "a.example", ["slower:1h"]),
    ],
)
def test_a_filter_is_read_as_on_the_command_line(seen, text, name, expected):
    """A name in Unicode fits the one that was asked for, and a unit of time that `dnstrail log` refuses is refused."""
    assert seen.open("/new").evaluate(FILTER, [text, name]) == expected


def test_a_refill_adds_no_connection_twice(seen):
    """After a gap the history repeats stages: each connection counts once, also where its ports are used again."""
    first = [stage("opened", 1, 100), stage("end", 1, 110, lasted=10, bytes_sent=7)]
    second = [stage("opened", 2, 120), stage("result", 2, 121, lasted=1, connected=True)]
    found = seen.open("/new").evaluate(FACTS, [[*first, *second], [held_open(120)], [first[1], *second, *first]])
    assert found == [[2, 2, 1, 7]] * 3


def test_open_connections_count_once(seen):
    """A connection that only the cache stated is the one whose stages arrive later; a later one is another."""
    entries = [stage("end", 1, 110, lasted=10, bytes_sent=7)]
    again = [stage("opened", 2, 120), stage("end", 2, 130, lasted=10, bytes_sent=5), stage("opened", 3, 140, 40_001)]
    found = seen.open("/new").evaluate(FACTS, [entries, [held_open(120), held_open(140, 40_001)], [*again, *entries]])
    assert found == [[1, 1, 0, 7], [3, 3, 2, 7], [3, 3, 1, 12]]


def test_facts_of_the_history_that_arrive_late_are_listed_by_time(seen):
    """The newest fact is the first row, also where the feed was faster than the history; the oldest one is known."""
    live = [{"id": f"l{at}", "name": f"live{at}", "timestamp": str(at * SECOND), "host": "h"} for at in (30, 40)]
    past = [{"id": f"p{at}", "name": f"past{at}", "timestamp": str(at * SECOND), "host": "h"} for at in (10, 35)]
    found = seen.open("/new").evaluate(LATE, [live, past])
    assert found == [["live40", "past35", "live30", "past10"], 10]


def test_the_facts_that_arrived_first_leave_first(seen):
    """At their bound the facts that arrived first leave, batch after batch; the rest is listed by time."""
    times = [[20, 10], [40, 30, 60, 50], [], [80], [5, 70, 90, 100, 110]]
    shared = {"name": "a", "host": "h"}
    batches = [[{"id": str(at), "timestamp": str(at * SECOND), **shared} for at in one] for one in times]
    arrived = [list(chain(*times[: place + 1])) for place in range(len(times))]
    expected = [[sorted(some[-4:], reverse=True), len(some[-4:]), len(some[:-4])] for some in arrived]
    assert seen.open("/new").evaluate(BATCHES, batches) == expected


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_field_of_a_csv_is_a_formula(seen, text):
    """A text, and a list that begins with one, is exported behind an apostrophe; a number stays as it is."""
    found = seen.open("/new").evaluate(CSV, [["a", "b", "c"], [{"a": text, "b": [text, "x"], "c": -5}]])
    assert next(csv.DictReader(io.StringIO(found, newline=""))) == {"a": f"'{text}", "b": f"'{text} x", "c": "-5"}


@pytest.mark.parametrize(
    ("mute", "fits"),
    [
        ({"value": ""}, True),
        ({"value": "10.0.0.1"}, True),
        ({"value": "10.0.0.1", "argument": "resolver"}, True),
        ({"value": "10.0.0.1", "argument": "client"}, False),
        ({"value": "10.0.0.2", "argument": "resolver"}, False),
        ({"value": "53", "argument": "port"}, True),
        ({"value": "53", "argument": "resolver"}, False),
    ],
)
def test_a_mute_fits_the_argument_that_it_names(seen, mute, fits):
    """The argument of a mute has its value, where numbers are compared as text."""
    found = {"args": [{"name": "resolver", "value": "10.0.0.1"}, {"name": "port", "value": 53}]}
    assert seen.open("/new").evaluate(MUTE_OF, [mute, found]) is fits


def test_hosts_in_the_graph_are_few_and_lead_to_a_name(seen):
    """Hosts lead to the question that they know, never to an address, which may be private; many are folded."""
    names = [f"h{number}" for number in range(40)]
    others = [["other", ["b.example"]], ["address", ["10.0.0.1"]], ["none", []]]
    shown, folded, ends = seen.open("/new").evaluate(GRAPH, [*([name, ["a.example"]] for name in names), *others])
    assert [*shown, *folded] == names
    assert len(shown) == 8
    assert ends == ["a.example"]


def test_a_request_waits_for_the_reply_before(seen):
    """A slow server has one request at a time, and none once the view is left."""
    assert seen.open("/new").evaluate(POLL) == [1, 0, True]


def test_an_export_of_health_adds_up_to_its_table(seen):
    """All outcomes that the table counts are exported, of the chosen resolver alone if there is one."""
    names = ["answered", "no_data", "nxdomain", "refused", "failed", "truncated", "unanswered", "unknown"]
    rest = {"median": 0.1, "p95": 0.2, "slowest": 0.3}
    outcomes = [dict.fromkeys(names, number) for number in (1, 2)]
    buckets = [
        {"start": 60, "lost": 0, "resolvers": {key: {"outcomes": one, **rest} for key in ("a", "b")}}
        for one in outcomes
    ]
    page = seen.open("/new")
    exported, table = page.evaluate(BUCKETS, [{"buckets": buckets}, ""])
    for row in table:
        rows = [one for one in exported if one["key"] == row["key"]]
        assert {part: sum(one[part] for one in rows) for part in row["parts"]} == row["parts"]
        assert sum(one["questions"] for one in rows) == 3 * len(names)
    chosen, _ = page.evaluate(BUCKETS, [{"buckets": buckets}, "b"])
    assert chosen == [one for one in exported if one["key"] == "b"]
