"""The report of `dnstrail run`: its forms, its verdict, and text of strangers in it."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from dnstrail.protocol.batches import CgroupLoss, Turn
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.forms import FORMATS
from dnstrail_run.report import (
    BLIND,
    AskedName,
    Conflict,
    Coverage,
    DnsServer,
    Program,
    ReachedAddress,
    RunReport,
    StartedContainer,
    coverage_of,
)
from dnstrail_run.sections import sections, summary
from dnstrail_run.table import show_report
from dnstrail_run.verdict import failures, is_encrypted_dns, is_unnamed, judged_part, learned, not_allowed

APP = Program(70, "app", "/bin/app")
HOSTILE = "<script>alert(1)</script>`|\x1b[31m\u202e\n[link](http://evil)&#60;"


def reached(name, address="192.0.2.1", port=443, transport="tcp", bytes_unknown=0, **results):
    return ReachedAddress(name, address, port, transport, APP, results or {"connected": 1}, bytes_unknown=bytes_unknown)


def report(**fields):
    """Return a report with these fields, and nothing else in it."""
    nothing = {
        "command": ["make"], "exit_code": 0, "started": 1.0, "seconds": 2.0, "left": 0, "names": [], "connections": [],
        "unnamed": [], "encrypted": [], "foreign_dns": [], "coverage": Coverage(True, [], BLIND),
    }  # fmt: skip
    return RunReport(**{**nothing, **fields})


def full():
    """Return a report with a hostile text wherever a stranger may put one."""
    program = Program(70, HOSTILE, HOSTILE, HOSTILE)
    connection = ReachedAddress(HOSTILE, "192.0.2.1", 443, "tcp", program, {"connected": 2, "ETIMEDOUT": 1}, [HOSTILE])
    return report(
        command=["sh", HOSTILE],
        names=[AskedName(HOSTILE, "answered", 1, program)],
        connections=[connection],
        unnamed=[connection],
        encrypted=[connection],
        foreign_dns=[DnsServer("192.0.2.9", 53, 3, program)],
        conflicts=[Conflict(HOSTILE, ["192.0.2.1"], [], 0)],
        containers=[StartedContainer(HOSTILE, HOSTILE, HOSTILE, [], [connection], [])],
        not_allowed=[f"reached {HOSTILE}"],
        failed=[f"unnamed: {HOSTILE}"],
        coverage=Coverage(False, [HOSTILE], BLIND),
        left=2,
        left_names=[HOSTILE],
    )


class Page(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_runs_and_loads_nothing():
    """Hostile text is text on the page: no element, no attribute, no address to load from."""
    text = FORMATS[".html"](full())
    page = Page()
    page.feed(text)
    assert page.tags == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "code",
        "div",
        "table",
        "tr",
        "th",
        "td",
    }
    assert page.attributes == {"lang", "charset", "http-equiv", "content", "name"}
    assert any("<script>alert(1)</script>" in part for part in page.texts)
    assert "default-src 'none'" in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_markdown_holds_hostile_text_as_code():
    """Hostile text cannot end the code in which it stands, nor its cell, nor its line."""
    text = FORMATS[".md"](full())
    assert not {"\x1b", "\u202e"} & set(text)
    for line in text.splitlines():
        outside = "".join(line.split("`")[::2])
        assert line.count("`") % 2 == 0
        assert "script" not in outside
        assert "link" not in outside
    cells = [line.count("|") for line in text.splitlines() if "ETIMEDOUT" in line]
    assert cells == [6, 6, 6, 6]


def test_the_table_escapes_hostile_text():
    """Hostile text on the terminal has no control bytes, and is no markup."""
    console = Console(width=400)
    with console.capture() as shown:
        show_report(full(), console)
    assert not {"\x1b", "\u202e"} & set(shown.get())
    assert "\\x1b[31m" in shown.get()


def started(*connections, name="web"):
    """Return a container that asked a name and a foreign server, and has these connections."""
    asked = [AskedName("evil.example", "answered", 1, APP)]
    return StartedContainer(
        "0123456789abcdef", name, "nginx", asked, [*connections], [DnsServer("192.0.2.9", 53, 1, APP)]
    )


def test_a_container_is_listed_by_itself():
    """The names and connections of a container that started meanwhile are apart from those of the command."""
    made = report(
        connections=[reached("good.example")],
        containers=[started(reached("evil.example", bytes_unknown=1)), started(name="")],
    )
    found = {section.title: section.rows for section in sections(made)}
    listed, ends, names, _servers = (rows for title, rows in found.items() if "ontainers" in title or "these" in title)
    assert listed == [("web", "nginx", "1", "1", "unknown"), ("0123456789ab", "nginx", "1", "0", "0 B / 0 B")]
    assert ([row[0] for row in ends], [row[0] for row in names]) == (["evil.example"], ["evil.example"] * 2)
    assert [row[0] for row in found["Connections"]] == ["good.example"]
    assert "0 names asked, 1 connection to 1 address" in summary(made)
    assert "2 containers started meanwhile" in summary(made)


@pytest.mark.parametrize("followed", [False, True])
def test_containers_are_judged_if_they_are_followed(followed):
    """Containers that started meanwhile count for a verdict and a learned list, if --follow-containers states so."""
    made = report(containers=[started(reached("evil.example"), reached("", "192.0.2.7"))], followed=followed)
    part = judged_part(made)
    assert bool(not_allowed(part, ALLOWED)) is followed
    assert len(failures(part, ("unnamed", "foreign-dns"))) == 2 * followed
    assert ("evil.example:443" in learned(part)) is followed


@pytest.mark.parametrize(
    ("left", "names", "text"),
    [
        (1, ["sleep(9)"], "1 process of the command still ran at its end: sleep(9)."),
        (3, ["a(1)"], "end: a(1), 2 more."),
    ],
)
def test_the_processes_that_are_left_are_named(left, names, text):
    """The report names some processes that outlived the command, and counts the others."""
    [section] = sections(report(left=left, left_names=names))
    assert any(row[0].endswith(text) for row in section.rows)


COUNTED = {"bytes_sent": 12_345, "bytes_received": 4_500_000}


@pytest.mark.parametrize(
    ("fields", "cell", "line"),
    [
        (COUNTED, "12.3 kB / 4.5 MB", "12.3 kB sent, 4.5 MB received"),
        ({**COUNTED, "bytes_unknown": 2}, "12.3 kB / 4.5 MB + 2 unknown", "at least 12.3 kB sent, 4.5 MB received"),
        ({"bytes_unknown": 1}, "unknown", "bytes unknown"),
    ],
)
def test_bytes_are_shown_for_people(fields, cell, line):
    """A row and the first line show the bytes in units, and what is unknown as unknown."""
    made = report(connections=[msgspec.structs.replace(reached("one.example"), **fields)])
    [section] = [one for one in sections(made) if one.title == "Connections"]
    assert dict(zip(section.heads, section.rows[0], strict=True))["sent / received"] == cell
    assert f"1 connection to 1 address, {line}, capture" in summary(made)


def test_json_contains_the_whole_report():
    """The JSON form can be read back."""
    text = FORMATS[".json"](full())
    assert msgspec.json.decode(text, type=RunReport) == full()
    assert json.loads(text)["connections"][0]["results"] == {"connected": 2, "ETIMEDOUT": 1}


def test_the_screen_holds_a_dozen_rows_of_each_section():
    """The table on the terminal is bounded, and names the number of rows that are in the file alone."""
    console = Console(width=120)
    with console.capture() as shown:
        show_report(report(names=[AskedName(f"n{one}.example", "answered", 1, APP) for one in range(100)]), console)
    assert shown.get().count(".example") == 12
    assert "88 more" in shown.get()


@pytest.mark.parametrize(
    ("fields", "line"), [({}, "exit code 3, 2.0 s"), ({"failed": ["x"]}, "exit code 3 (of dnstrail: 10), 2.0 s")]
)
def test_the_first_line_has_both_exit_codes(fields, line):
    """The first line has the exit code of the command, and the one of dnstrail if it objects."""
    assert summary(report(exit_code=3, **fields)).startswith(line)


def test_a_section_without_rows_is_left_out():
    """An empty report has its coverage alone."""
    assert [section.title for section in sections(report())] == ["Coverage"]


ALLOWED = parse_allow_list("good.example:443\n*.cdn.example\n192.0.2.53:53\n")


def test_everything_outside_the_list_is_named():
    """Names asked, connections and servers that the list does not contain are named, each once."""
    found = not_allowed(
        report(
            names=[AskedName(name, "answered", 1, APP) for name in ("good.example", "x.cdn.example", "bad.example")],
            connections=[reached("good.example"), reached("good.example", port=80), reached(""), reached("")],
            foreign_dns=[DnsServer("192.0.2.53", 53, 1, APP), DnsServer("2001:db8::53", 53, 1, APP)],
        ),
        ALLOWED,
    )
    assert found == [
        "asked bad.example",
        "reached good.example (192.0.2.1:80/tcp)",
        "reached 192.0.2.1:443/tcp",
        "asked the server [2001:db8::53]:53",
    ]


def test_conflicting_answers_are_named():
    """Conflicting answers are an objection, and the report shows the addresses of both sides."""
    seen = report(conflicts=[Conflict("a.example", ["192.0.2.1", "192.0.2.2"], ["198.51.100.1"], 3)])
    assert not_allowed(seen, parse_allow_list("a.example")) == ["received conflicting answers for a.example"]
    (found,) = [section for section in sections(seen) if section.title == "Conflicting answers"]
    assert found.rows == [("a.example", "192.0.2.1, 192.0.2.2", "198.51.100.1", "3")]


def test_a_learned_list_allows_what_it_was_learned_from():
    """The list contains everything of its report, and no unusual name can add an entry to it."""
    odd = "evil.example\n*.example"
    seen = report(
        names=[AskedName(name, "answered", 1, APP) for name in ("one.example", "two.example", odd)],
        connections=[
            reached("one.example"),
            reached("one.example", port=80),
            reached("", "2001:db8::1", 22),
            reached("", "192.0.2.9", 53),
        ],
        foreign_dns=[DnsServer("192.0.2.9", 53, 1, APP), DnsServer("192.0.2.9", 54, 1, APP)],
    )
    lines = [*learned(seen)]
    assert lines[1:-1] == [
        "resolver 192.0.2.9",
        "192.0.2.9:54",
        "[2001:db8::1]:22",
        "# left out, since it is no usual name: 'evil.example\\n*.example'",
        "one.example:80,443",
    ]
    assert lines[-1] == "two.example"
    assert not_allowed(seen, parse_allow_list("\n".join(lines))) == [f"asked {odd}"]


def test_a_learned_list_allows_reverse_names():
    """A name of a reverse lookup is an entry like any other, and so are all names below a reverse zone."""
    names = ("4.3.2.1.in-addr.arpa", f"{'0.' * 28}8.b.d.0.ip6.arpa")
    seen = report(names=[AskedName(name, "NXDOMAIN", 1, APP) for name in names])
    for domains in (False, True):
        assert not_allowed(seen, parse_allow_list("\n".join(learned(seen, domains=domains)))) == []


@pytest.mark.parametrize("name", ["[::]/0", "[2001:db8::1]", "192.0.2.1", "10.0.0", "7"])
def test_a_name_like_an_address_is_no_entry(name):
    """The list does not allow an address because the command asked for a name that is written like one."""
    seen = report(names=[AskedName(name, "NXDOMAIN", 1, APP)], connections=[reached("one.example")])
    lines = [*learned(seen)]
    assert f"# left out, since it is no usual name: {name!a}" in lines
    allowed = parse_allow_list("\n".join(lines))
    assert (allowed.networks, [*allowed.names]) == ([], ["one.example"])


def test_a_learned_list_has_types():
    """An entry has the types of questions that it does not have anyway, as far as an entry can have them."""
    names = [
        AskedName("_http._tcp.one.example.com", "answered", 2, APP, ["A", "SRV"]),
        AskedName("two.example.com", "answered", 4, APP, ["AAAA", "HTTPS", "MX", "TXT", "ANY", "TYPE65280"]),
    ]
    seen = report(names=names, connections=[reached("two.example.com")])
    assert [*learned(seen)][1:] == ["_http._tcp.one.example.com SRV", "two.example.com:443 MX TXT"]
    assert [*learned(seen, domains=True)][1:] == ["*.example.com:443 MX SRV TXT"]


def test_a_list_of_domains_allows_their_other_names():
    """The list has one entry for all names below a registered domain, and no entry for a whole public suffix."""
    names = (
        "a.b.example.co.uk",
        "c.example.co.uk",
        "example.co.uk",
        "example.com",
        "co.uk",
        "x.github.io",
        "a.x.github.io",
    )
    seen = report(
        names=[AskedName(name, "answered", 1, APP) for name in (*names, "local", "odd name.example.com")],
        connections=[reached("c.example.co.uk"), reached("a.b.example.co.uk", port=80), reached("", "192.0.2.7", 22)],
    )
    lines = [*learned(seen, domains=True)][1:]
    assert lines == [
        "*.example.co.uk:80,443",
        "*.x.github.io",
        "192.0.2.7:22",
        "co.uk",
        "example.co.uk",
        "example.com",
        "local",
        "# left out, since it is no usual name: 'odd name.example.com'",
        "x.github.io",
    ]
    assert not_allowed(seen, parse_allow_list("\n".join(lines))) == ["asked odd name.example.com"]


def test_reasons_to_fail_are_named():
    """`--fail-on` names connections without a name, refusals, and foreign DNS, and nothing that was not chosen."""
    seen = report(
        names=[AskedName("no.example", "refused", 1, APP)],
        connections=[reached("a.example", ECONNREFUSED=2)],
        unnamed=[reached("")],
        foreign_dns=[DnsServer("192.0.2.9", 53, 1, APP)],
    )
    assert failures(seen, ()) == []
    assert failures(seen, ("unnamed",)) == ["unnamed: 192.0.2.1:443/tcp"]
    assert failures(seen, ("refused",)) == ["refused: the name no.example", "refused: a.example (192.0.2.1:443/tcp)"]
    assert failures(seen, ("foreign-dns",)) == ["foreign DNS: 192.0.2.9:53"]


def test_a_connection_to_this_host_needs_no_name():
    """A connection to a loopback address does not count as unnamed."""
    assert [is_unnamed(reached("", address)) for address in ("127.0.0.9", "::1", "192.0.2.1")] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "address", "port", "encrypted"),
    [
        ("", "192.0.2.1", 853, True),
        ("dns.google", "192.0.2.1", 443, True),
        ("", "1.1.1.1", 443, True),
        ("dns.google", "192.0.2.1", 80, False),
        ("a.example", "192.0.2.1", 443, False),
    ],
)
def test_encrypted_dns_is_recognized_by_its_ends(name, address, port, encrypted):
    """Port 853, and public resolvers behind port 443, are encrypted DNS."""
    assert is_encrypted_dns(reached(name, address, port)) is encrypted


def turn(start="s", lost=None, by_cgroup=()):
    return Turn(start, 1, {}, True, 0, lost=lost or {}, lost_by_cgroup=by_cgroup)


@pytest.mark.parametrize(
    ("last", "more", "missed"),
    [
        (turn(), {}, []),
        (turn(lost={"kernel": {"ring": 3}}, by_cgroup=(CgroupLoss(9, 3),)), {}, []),
        (turn(lost={"kernel": {"ring": 3}}, by_cgroup=(CgroupLoss(9, 3),)), {"cgroups": None}, ["kernel lost 3"]),
        (turn(lost={"kernel": {"ring": 3}}, by_cgroup=(CgroupLoss(8, 3),)), {"cgroups": {7, 8}}, ["kernel lost 3"]),
        (turn(lost={"kernel": {"ring": 3}}, by_cgroup=(CgroupLoss(7, 3),)), {}, ["kernel lost 3"]),
        (turn(lost={"kernel": {"ring": 3}}, by_cgroup=(CgroupLoss(0, 3),)), {}, ["kernel lost 3"]),
        (turn(lost={"kernel": {"ring": 3}}), {}, ["kernel lost 3"]),
        (turn(lost={"probe": {"queue": 2}}), {}, ["probe lost 2"]),
        (turn(start="other"), {}, ["restarted"]),
        (turn(), {"bus": 4}, ["bus lost 4"]),
        (turn(), {"left_out": 5}, ["5 events"]),
        (turn(), {"fault": "Dead."}, ["Dead."]),
    ],
)
def test_coverage_states_each_loss(last, more, missed):
    """A loss of the command's cgroups, or of an unknown one, makes the capture incomplete; or of any, if all count."""
    found = coverage_of(turn(), last, **{"cgroups": {7}, "bus": 0, "left_out": 0, "fault": "", **more})
    assert found.complete is (not missed)
    assert [part in text for part, text in zip(missed, found.missed, strict=True)] == [True] * len(missed)
