"""Watched names: the list, and the rules of the settings file, over transactions."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from builders.costly import calls_in
from builders.detection_events import CURL, OTHER
from dnstrail.captured import Flow, Process
from dnstrail.datasource import DataSources, DnsIdentity
from dnstrail.errors import SettingsError
from dnstrail.signature import Signal
from dnstrail.testing import SignatureRun, dns_transaction
from dnstrail_cache.facts import MOST_BYTES
from dnstrail_signatures.builtin import watched_name
from dnstrail_signatures.builtin.watched_name import MOST_LOOKUPS, WATCH_LIST, WatchedName, WatchedNameSettings
from dnstrail_signatures.detection import watch_table
from dnstrail_signatures.detection.watch_table import WatchTable, read_watch_list
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.scope import Allow, CommonSettings, Mute
from dnstrail_signatures.loading.signature_settings import SignatureSettings
from dnstrail_signatures.loading.watch_rule import WatchRule

SECOND = 10**9
IN_WEB = msgspec.structs.replace(CURL, container_id="c0ffee0123456", container_name="web", container_image="nginx")
IN_DB = msgspec.structs.replace(IN_WEB, container_id="db00000123456", container_name="db")
ADDRESS = "192.0.2.1"


def in_unit(unit: str) -> Process:
    """Return the process of a unit."""
    return msgspec.structs.replace(CURL, unit=unit)


@pytest.fixture
def watch_list(tmp_path, monkeypatch):
    """Return a function that writes the watch list of the signature."""

    def write(text):
        path = tmp_path / "list.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv(WATCH_LIST, str(path))
        return path

    return write


def engine(settings=None, *sources, **options):
    cls = WatchedName if settings is None else type("Own", (WatchedName,), {"settings": settings})
    found = []
    return Engine([cls], DataSources(*sources), found.append, **options), found


def ruled(*rules):
    """Return a run of the signature with rules."""
    return SignatureRun(WatchedName, settings=WatchedNameSettings(watch=rules))


def rules_of(run, *events):
    """Pass events on; return the rules that report each of them."""
    return [[finding.data.get("rule") for finding in run.event(one)] for one in events]


ALIASES = ("shop.com 60 CNAME x.cdn.net.", "x.cdn.net 60 CNAME in.Evil.com.", "in.evil.com 60 A 192.0.2.1")


@pytest.mark.parametrize(
    ("question", "records", "watched"),
    [
        ("evil.com", ["evil.com 60 A 192.0.2.1"], "evil.com"),
        ("EVIL.com", ["EVIL.com 60 A 192.0.2.1"], "evil.com"),
        ("deep.bad.evil.com", [], "bad.evil.com"),
        ("shop.com", ALIASES, "evil.com"),
        ("bücher.example", [], "xn--bcher-kva.example"),
        ("1.2.0.192.in-addr.arpa PTR", [], "192.0.2.1"),
        (r"a\.evil.com", [], ""),
        (r"a\\.evil.com", [], "evil.com"),
        (r"\000\255\032.evil.com", [], "evil.com"),
        ("good.com", ["good.com 60 A 192.0.2.1"], ""),
        ("notevil.com", [], ""),
        ("com", [], ""),
        ("evil.com.org", [], ""),
        ("commented.com", [], ""),
    ],
)
def test_watched_names_are_reported(watch_list, question, records, watched):
    """A question is reported if its name, or an alias, is a watched name or lies below one by its labels."""
    watch_list("# bad\nEvil.com.\nbad.evil.com # below\n\nbücher.example\n1.2.0.192.in-addr.arpa\n#commented.com\n")
    running, found = engine()
    running.on_event(dns_transaction(question, *records))
    assert running.counters["errors"] == 0
    assert [finding.data["watched_name"] for finding in found] == ([watched] if watched else [])


def test_the_content_of_a_finding():
    """A finding has the name, its aliases and addresses, and the outcome; the transaction led to it."""
    run = ruled()
    event = dns_transaction("shop.example", "shop.example 60 CNAME a.c2.example", "a.c2.example 60 A 192.0.2.1")
    [finding] = run.event(event)
    assert finding.data == {
        "watched_name": "c2.example",
        "ip_addresses": [ADDRESS],
        "dns_queries": ["shop.example", "a.c2.example"],
        "dns_root": "shop.example",
        "outcome": "answered",
    }
    assert (finding.event, finding.metadata) == (event, WatchedName.metadata)


def test_an_answer_that_the_image_rejected_leads_nowhere():
    """The aliases of an answer that was not admitted do not count; the name that was asked does."""
    forged = dns_transaction("shop.example", "shop.example 60 CNAME a.c2.example")
    captured = msgspec.structs.replace(forged.captured, args=forged.captured.args | {"admitted": False})
    assert rules_of(ruled(), replace(forged, captured=captured), dns_transaction("c2.example")) == [[], [None]]


def test_a_lookup_is_reported_once():
    """A and AAAA of one call make one finding, and another process a further one; five seconds later it begins anew."""
    record = "c2.example 60 A 192.0.2.1"
    events = [
        dns_transaction("c2.example", record, process=CURL, at=1.0),
        dns_transaction("c2.example AAAA", process=CURL, at=1.1),
        dns_transaction("c2.example", record, process=OTHER, at=1.2),
        dns_transaction("c2.example", record, process=CURL, at=5.9),
        dns_transaction("c2.example", record, process=CURL, at=6.0),
    ]
    assert rules_of(ruled(), *events) == [[None], [], [None], [], [None]]


def test_a_name_without_an_answer_is_reported_once():
    """Neither AAAA without an answer beside A, nor the same question to further servers, makes a second finding."""
    run, record = ruled(), "c2.example 60 A 192.0.2.1"
    run.event(dns_transaction("c2.example", record, process=CURL, at=0.1))
    for at in (30.0, 34.9, 35.2, 40.0, 60.0, 71.0):
        run.event(dns_transaction("c2.example AAAA", outcome="unanswered", process=CURL, at=at))
    run.event(dns_transaction("c2.example", record, process=CURL, at=72.0))
    assert [(found.data["outcome"], found.event.timestamp // SECOND) for found in run.findings] == [
        ("answered", 0),
        ("unanswered", 35),
        ("unanswered", 71),
        ("answered", 72),
    ]


def test_an_answer_after_no_data_is_reported():
    """A lookup that was reported without data is reported again when another type has an answer, and then no more."""
    run, kinds = ruled(), (("AAAA", []), ("A", ["c2.example 60 A 192.0.2.1"]), ("TXT", []), ("MX", []))
    found = [run.event(dns_transaction(f"c2.example {kind}", *records, process=CURL)) for kind, records in kinds]
    assert [[one.data["outcome"] for one in each] for each in found] == [["no_data"], ["answered"], [], []]


def test_clients_of_other_hosts_are_told_apart():
    """Without a process the address of the client is the asker."""
    run = ruled()
    one = dns_transaction("c2.example", hop="served")
    flows = [Flow(bytes([192, 0, 2, host]), 5000, bytes([192, 0, 2, 53]), 53) for host in (1, 1, 2)]
    events = [replace(one, captured=msgspec.structs.replace(one.captured, flow=flow)) for flow in flows]
    assert rules_of(run, *events) == [[None], [], [None]]


def test_a_flood_of_lookups_is_bounded():
    """Beyond the bound the lookup reported longest ago is evicted and counted, and can be reported again."""
    run = ruled()
    for number in range(MOST_LOOKUPS + 1):
        run.event(dns_transaction(f"{number}.c2.example", process=CURL))
    assert (len(run.findings), run.signature.evicted) == (MOST_LOOKUPS + 1, 1)
    again = [dns_transaction(f"{number}.c2.example", process=CURL) for number in (MOST_LOOKUPS, 0)]
    assert rules_of(run, *again) == [[], [None]]


def asked(name, asked_for="", **stated):
    """Return the transaction of a client, or of a forwarder that asks for a client."""
    one = dns_transaction(name, **stated)
    return replace(one, captured=msgspec.structs.replace(one.captured, args=one.captured.args | {"for": asked_for}))


RULE = {"name": "r", "suffixes": ("evil.com",)}


@pytest.mark.parametrize(
    ("keys", "matching", "other"),
    [
        ({}, {"hop": "forwarder"}, {"hop": "forwarder", "asked_for": "s/0/0"}),
        ({"hops": ("client",)}, {"hop": "forwarder"}, {"hop": "forwarder", "asked_for": "s/0/0"}),
        ({"hops": ("served",)}, {"hop": "served"}, {"hop": "forwarder"}),
        ({"hops": ("forwarder",)}, {"hop": "forwarder"}, {}),
        ({"outcomes": ("nxdomain", "failed")}, {"outcome": "failed"}, {"outcome": "answered"}),
        ({"origin": "container"}, {"process": IN_WEB}, {"process": CURL}),
        ({"origin": "host"}, {"process": CURL}, {"process": IN_WEB}),
        ({"containers": ("web",)}, {"process": IN_WEB}, {"process": IN_DB}),
        ({"containers": ("c0ffee012345",)}, {"process": IN_WEB}, {"process": IN_DB}),
        ({"images": ("nginx",)}, {"process": IN_WEB}, {"process": CURL}),
        ({"programs": ("curl",)}, {"process": CURL}, {"process": OTHER}),
        ({"units": ("web.service",)}, {"process": in_unit("web.service")}, {"process": in_unit("alice/web.service")}),
        ({"units": ("alice/*",)}, {"process": in_unit("alice/web.service")}, {"process": in_unit("web.service")}),
        ({"users": (7,)}, {"process": msgspec.structs.replace(CURL, user_id=7)}, {"process": CURL}),
        ({"users": (0,)}, {"process": CURL}, {"hop": "served"}),
        ({"outcomes": ("failed",), "origin": "host"}, {"outcome": "failed"}, {"outcome": "failed", "process": IN_WEB}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_a_transaction_has_to_match_each_key(keys, matching, other):
    """A rule reports a transaction that matches each of its keys, and no other."""
    run = ruled(WatchRule(**(RULE | keys)))
    assert rules_of(run, asked("a.evil.com", **other), asked("b.evil.com", **matching)) == [[], ["r"]]


def test_a_rule_without_suffixes_matches_any_name():
    """A rule is limited by the keys that it states alone."""
    run = ruled(WatchRule(name="failures", outcomes=("failed",)))
    events = [dns_transaction("any.example", outcome=outcome) for outcome in ("failed", "nxdomain")]
    assert rules_of(run, *events) == [["failures"], []]
    [finding] = run.findings
    assert finding.data["watched_name"] == ""


def test_each_rule_that_matches_reports(tmp_path):
    """One transaction is a finding of each rule that it matches, in their order: names and files of one table."""
    (tmp_path / "list").write_text("com\nother.example\n")
    rules = WatchRule(name="a", suffixes=("evil.com",)), WatchRule(name="b", file=str(tmp_path / "list"))
    run = ruled(*rules, WatchRule(name="c", suffixes=("c2.example",)))
    assert rules_of(run, dns_transaction("x.evil.com"), dns_transaction("c2.example")) == [["a", "b"], [None, "c"]]
    assert [finding.data["watched_name"] for finding in run.findings[:2]] == ["evil.com", "com"]
    assert run.findings[0].metadata.name == "a"


def test_the_findings_of_two_rules_have_two_ids():
    """A finding has the id of its rule and transaction, whichever other rules report the transaction."""
    event, ids = dns_transaction("evil.com"), []
    for names in ("a", "ab", "b"):
        rules = tuple(WatchRule(name=name, suffixes=("evil.com",)) for name in names)
        running, found = engine(WatchedNameSettings(watch=rules))
        running.on_event(event)
        ids.append([finding.id for finding in found])
    assert ids[1] == ids[0] + ids[2]
    assert len({*ids[1]}) == 2


@pytest.mark.parametrize(
    ("place", "new"),
    [("host", [True, False, False, False]), ("container", [True, True, False, False]), ("program", [True] * 4)],
)
def test_first_seen_reports_the_first_of_each_place(place, new):
    """A domain is reported once for a host, a container or a program; a name below it is no further domain."""
    run = ruled(WatchRule(name="r", first_seen=place))
    wget = msgspec.structs.replace(IN_DB, pid=9, path="/usr/bin/wget")
    askers = (IN_WEB, IN_DB, msgspec.structs.replace(wget, container_id=""), wget)
    events = [dns_transaction(f"{number}.a.com", process=one) for number, one in enumerate(askers)]
    assert [bool(found) for found in rules_of(run, *events)] == new
    assert not any(rules_of(run, *events))


def test_first_seen_learns_first():
    """Within the time to learn nothing is new; what was learned is not new later."""
    run = ruled(WatchRule(name="r", first_seen="host", learn=60))
    events = [dns_transaction(name, at=at) for name, at in (("a.com", 0), ("b.com", 59), ("a.com", 61), ("c.com", 61))]
    assert rules_of(run, *events) == [[], [], [], ["r"]]


def test_what_first_seen_remembers_is_bounded(monkeypatch):
    """Beyond the bound the domain asked longest ago is new again, and counted: a flood hides nothing."""
    monkeypatch.setattr(watched_name, "MOST_SEEN", 8)
    run = ruled(*(WatchRule(name=name, first_seen="host") for name in "ab"))
    names = [f"{number}.com" for number in range(5)]
    assert rules_of(run, *map(dns_transaction, names)) == [["a", "b"]] * 5
    assert run.signature.evicted == 2
    later = [dns_transaction(name, at=9.0) for name in (names[4], names[0])]
    assert rules_of(run, *later) == [[], ["a", "b"]]


def test_a_changed_rule_begins_anew_alone():
    """After a reload of changed rules those that stay remember what they have seen, and what was reported."""
    stays, learns = (WatchRule(name=name, first_seen="host", learn=learn) for name, learn in (("a", 0), ("b", 60)))
    changes, changed = (WatchRule(name="c", first_seen="host", programs=one) for one in (("curl",), ("curl", "wget")))
    always = WatchRule(name="d", suffixes=("d.com",))
    running, found = engine(WatchedNameSettings(watch=(stays, learns, changes, always)))
    cls = type(running.signatures[0])

    def reported(name, at):
        found.clear()
        running.on_event(dns_transaction(name, at=at, process=IN_WEB))
        return [finding.data["rule"] for finding in found]

    assert [reported("x.a.com", 1.0), reported("x.d.com", 1.0)] == [["a", "c"], ["a", "c", "d"]]
    new = WatchedNameSettings(watch=(changed, always, stays, learns))
    running.adopt(running.prepare([cls], {cls.metadata.id: SignatureSettings(own=new)}))
    assert [reported("x.d.com", 3.0), reported("x.a.com", 9.0)] == [[], ["c"]]
    assert [reported("x.b.com", 62.0), reported("x.a.com", 62.0)] == [["c", "a", "b"], []]


def test_a_new_container_of_an_old_name_is_new():
    """A container is known by its id: one that a stranger gives the name of another does not count as seen."""
    run = ruled(WatchRule(name="r", first_seen="container"))
    forged = msgspec.structs.replace(IN_WEB, pid=99, container_id="bad0000123456")
    assert rules_of(run, *(dns_transaction("a.com", process=one) for one in (IN_WEB, forged))) == [["r"], ["r"]]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"suffixes": ["a..b"]}, "'a..b' is no domain name"),
        ({"suffixes": ["."]}, "'.' is no domain name"),
        ({"suffixes": []}, "Expected `array` of length >= 1"),
        ({"outcomes": ["NXDOMAIN"]}, "'NXDOMAIN' is no outcome; known: answered, no_data"),
        ({"hops": ["server"]}, "'server' is no hop; known: client, forwarder, served"),
        ({"users": ["no such user"]}, "'no such user' is no user of this host"),
        ({"first_seen": "user"}, "Invalid enum value 'user'"),
        ({"learn": -1}, "Expected `float` >= 0"),
        ({"first_seen": "host", "learn": float("inf")}, "Expected `float` <= "),
        ({"origin": "host", "learn": 60}, "learn has no effect without first_seen"),
        ({"hops": ["client"]}, "no key limits the rule"),
        *(
            ({"hops": ["served"], key: value}, "a served client has no process here")
            for key, value in {
                "programs": ["curl"],
                "containers": ["web"],
                "images": ["nginx"],
                "users": [0],
                "origin": "container",
            }.items()
        ),
        ({}, "no key limits the rule"),
    ],
)
def test_a_rule_that_matches_nothing_or_everything_is_refused(keys, reason):
    """A value that is none, an empty list, and a rule without limits are errors that state the reason."""
    with pytest.raises(msgspec.ValidationError, match=re.escape(reason)):
        msgspec.convert({"name": "r", **keys}, WatchRule)


def test_the_settings_of_the_signature_apply_to_transactions():
    """Names and programs that `allow` lists are suppressed."""
    allow = {"names": ("good.c2.example",), "processes": ("wget",)}
    settings = {"DNSTRAIL-1": SignatureSettings(CommonSettings(allow=Allow(**allow)))}
    found = []
    running = Engine([WatchedName], DataSources(), found.append, settings=settings)
    for name, process in (("x.good.c2.example", CURL), ("a.c2.example", OTHER), ("b.c2.example", CURL)):
        running.on_event(dns_transaction(name, process=process))
    assert [finding.data["dns_root"] for finding in found] == ["b.c2.example"]


def test_a_suppressed_transaction_hides_none_after_it():
    """The first lookup after a mute is reported, though the same one was muted a moment before; then it is quiet."""
    mute = Mute("a test", datetime.fromtimestamp(12, UTC))
    found = []
    settings = {"DNSTRAIL-1": SignatureSettings(CommonSettings(mute=mute))}
    running = Engine([WatchedName], DataSources(), found.append, settings=settings)
    for at in (10.0, 11.0, 12.0, 13.0):
        running.on_event(dns_transaction("c2.example", process=CURL, at=at))
    assert [finding.event.timestamp // SECOND for finding in found] == [12]
    assert running.suppressed["WATCHED_NAME"] == 1


def test_without_facts_it_does_not_start():
    """A run without the facts of a cache leaves the signature out."""
    running, _ = engine(facts=False)
    assert (running.signatures, running.counters["not_started"], running.faults) == ([], 1, {})


def test_without_the_facts_of_its_cache_it_has_a_fault():
    """A run with the cache of another host, whose facts nobody named, leaves the signature out and says so."""
    running, _ = engine(None, DnsIdentity(), facts=False)
    assert "--cache-facts" in running.faults["WATCHED_NAME"]


def test_the_list_that_ships_is_read(monkeypatch):
    """Without a list of the user, the signature reads the list that ships with dnstrail."""
    monkeypatch.delenv(WATCH_LIST, raising=False)
    assert rules_of(ruled(), dns_transaction("c2.example")) == [[None]]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("good.com\na..b\n", ", line 2: 'a..b' is no domain name: write one name on each line"),
        (b"\xff\xfe", ": 'utf-8' codec can't decode"),
        ("# nothing\n\n  \n", ": it has no name"),
    ],
    ids=["not a name", "not UTF-8", "empty"],
)
def test_a_bad_list_is_refused(watch_list, monkeypatch, text, error):
    """An unreadable list, a line that is not a name, or no name at all is a SettingsError that names file and line."""
    path = watch_list(text)
    with pytest.raises(SettingsError, match=re.escape(f"watch list {path}{error}")):
        read_watch_list(path)
    with pytest.raises(SettingsError, match=re.escape(f"watch list {path}{error}") + ".*DNSTRAIL_WATCH_LIST"):
        engine()
    monkeypatch.delenv(WATCH_LIST)
    with pytest.raises(SettingsError, match=re.escape(f"watch list {path}{error}") + r".*file of the rule 'r' in"):
        engine(WatchedNameSettings(watch=(WatchRule(name="r", file=str(path)),)))


ODD = (
    "0.0.0.0 www.evil.com",
    "https://www.evil.com/",
    "www.evil.com,",
    "||evil.com^",
    "address=/evil.com/",
    "evil.com:53",
    "evil[.]com",
    "10.0.0.0/8",
    "*",
    "www.*.com",
    "evil.com\x00",
)


@pytest.mark.parametrize("line", ODD)
def test_a_line_of_another_format_is_refused(watch_list, line):
    """A line with a character that no host name contains would watch nothing: a list and a rule refuse it."""
    path = watch_list(f"good.com\n\n{line}\n")
    with pytest.raises(SettingsError, match=re.escape(f"line 3: {line!r} is no domain name")):
        read_watch_list(path)
    with pytest.raises(ValueError, match=re.escape(f"{line!r} is no domain name")):
        WatchRule(name="r", suffixes=(line,))


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("*.evil.com", "evil.com"),
        ("*.evil.com", "www.evil.com"),
        ("_dmarc.Evil-1.com.", "_dmarc.evil-1.com"),
        ("*.bücher.example", "www.xn--bcher-kva.example"),
        (r"a\,b.com", "a,b.com"),
        (r"\*.evil.com", "*.evil.com"),
        ("2001:DB8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa PTR"),
        ("10.in-addr.arpa", "1.2.3.10.in-addr.arpa PTR"),
        ("*.10.in-addr.arpa.", "10.in-addr.arpa SOA"),
    ],
)
def test_a_line_watches_the_names_that_it_means(watch_list, line, asked):
    """A wildcard means the name below which it stands, a backslash an odd label, and a reverse zone is a name."""
    watch_list(line)
    rule = WatchRule(name="r", suffixes=(line,))
    assert rules_of(ruled(rule), dns_transaction(asked)) == [[None, "r"]]


@pytest.mark.parametrize("name", ["none.txt", "."], ids=["not there", "a folder"])
def test_a_list_that_is_not_there_is_refused(tmp_path, name):
    """A path that is not a file is a SettingsError that names it."""
    with pytest.raises(SettingsError, match=f"watch list {tmp_path / name}: "):
        read_watch_list(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes the link of another user")
@pytest.mark.parametrize("link", ["list", "folder", "chain"])
def test_the_link_of_a_stranger_is_refused(tmp_path, link):
    """A link of another user, at whatever place of the path, leads to no file of root or of this user."""
    secret = tmp_path / "own/secret"
    secret.parent.mkdir()
    secret.write_text("secret.example\n")
    made = tmp_path / "link"
    made.symlink_to(secret.parent if link == "folder" else secret)
    os.chown(made, 12345, 12345, follow_symlinks=False)
    (tmp_path / "first").symlink_to("link")
    path = {"list": made, "folder": made / "secret", "chain": tmp_path / "first"}[link]
    with pytest.raises(SettingsError, match=f"user 12345 made the link {made}: name the file itself"):
        read_watch_list(path)
    os.chown(secret, 12345, 12345)
    assert read_watch_list(path) == ["secret.example"], "the owner of a file may link to it"


def test_links_of_root_are_followed(tmp_path):
    """A list may be linked twice, as in a ConfigMap of Kubernetes."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/list").write_text("a.example\n")
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "list").symlink_to("data/list")
    assert read_watch_list(tmp_path / "list") == ["a.example"]


def test_watched_names_are_bounded(monkeypatch):
    """More names than the bound, of all rules together, are refused; one name of two rules is one."""
    monkeypatch.setattr(watch_table, "MOST_SUFFIXES", 3)
    table = WatchTable()
    table.add(["a.com", "b.com"], 1)
    table.add(["b.com", "c.com"], 2)
    with pytest.raises(SettingsError, match="more than 3 watched names"):
        table.add(["d.com"], 1)
    rule = WatchRule(name="r", suffixes=("1.com", "2.com", "3.com"))
    with pytest.raises(SettingsError, match="more than 3 watched names"):
        engine(WatchedNameSettings(watch=(rule,)))


def test_the_work_for_a_name_does_not_grow_with_the_rules():
    """A transaction that no rule matches costs the same calls with one rule and with 60, and with many labels."""
    calls = []
    for count in (1, 60):
        run = ruled(*(WatchRule(name=f"r{rule}", suffixes=(f"r{rule}.com",)) for rule in range(count)))
        event = dns_transaction("www.shop.example", "www.shop.example 60 CNAME a.b.net", "a.b.net 60 A 192.0.2.1")
        calls.append(calls_in(lambda run=run, event=event: run.signature.on_event(event)))
    assert calls[0] == calls[1]
    longest = dns_transaction(".".join(["a"] * 127))
    assert calls_in(lambda: run.signature.on_event(longest)) < 600


@pytest.mark.parametrize(("label", "count"), [("a", 125), (r"\000", 63), ("x" * 63, 3)])
def test_the_work_for_a_long_answer_is_bounded(label, count):
    """The longest aliases that a fact can contain cost a few calls for each byte, also where all rules report them."""
    name = ".".join([label] * count)
    records = [f"{name} 60 CNAME {number}.{name[len(label) + 1 :]}" for number in range(MOST_BYTES // len(name) // 2)]
    event = dns_transaction("a.example", *records)
    run = ruled(*(WatchRule(name=f"r{number}", suffixes=(f"{number}.com",)) for number in range(60)))
    assert calls_in(lambda: run.signature.on_event(event)) < 5 * MOST_BYTES
    suffixes = (f"{len(records) - 1}.{name[len(label) + 1 :]}",)
    run = ruled(*(WatchRule(name=f"r{number}", suffixes=suffixes) for number in range(60)))
    assert calls_in(lambda: run.signature.on_event(event)) < 10 * MOST_BYTES
    assert len(run.findings) == 60


def test_a_list_is_read_again(watch_list, tmp_path):
    """A reload replaces the names; a file that is wrong, of whatever rule, leaves the old ones in place."""
    watch_list("evil.com")
    other = tmp_path / "other"
    other.write_text("rule.com\n")
    run = SignatureRun(WatchedName, settings=WatchedNameSettings(watch=(WatchRule(name="r", file=str(other)),)))
    events = [dns_transaction(f"{name}.com") for name in ("evil", "worse", "rule")]

    def reported():
        run.signature.reported = watched_name.BoundedTable(9)
        return [bool(found) for found in rules_of(run, *events)]

    watch_list("worse.com")
    run.signal("source_complete")
    assert reported() == [True, False, True]
    run.signal("reload")
    assert reported() == [False, True, True]
    watch_list("evil.com")
    other.unlink()
    with pytest.raises(SettingsError, match="other: No such file"):
        run.signature.on_signal(Signal("reload"))
    assert reported() == [False, True, True]


def test_the_settings_name_a_list(tmp_path, watch_list):
    """A list of the settings comes before the one of the environment."""
    watch_list("evil.com")
    own = tmp_path / "own.txt"
    own.write_text("own.com\n")
    run = SignatureRun(WatchedName, settings=WatchedNameSettings(file=str(own)))
    assert rules_of(run, dns_transaction("evil.com"), dns_transaction("own.com")) == [[], [None]]


def test_the_last_good_list_applies_after_a_restart(watch_list, tmp_path):
    """With a folder of state a signature whose list is gone starts with the list from before, and has a fault."""
    path = watch_list("evil.com\n# no name\na\\032b.com\n")
    engine(state=tmp_path)
    path.unlink()
    running, found = engine(state=tmp_path)
    for name in ("evil.com", r"a\032b.com"):
        running.on_event(dns_transaction(name))
    assert len(found) == 2
    assert str(path) in running.faults["WATCHED_NAME"]


def test_the_kept_list_of_another_file_does_not_apply(watch_list, tmp_path, monkeypatch):
    """A list that was kept of one file does not stand in for another file that is missing."""
    watch_list("evil.com")
    engine(state=tmp_path)
    monkeypatch.setenv(WATCH_LIST, str(tmp_path / "another"))
    with pytest.raises(SettingsError, match="another: No such file"):
        engine(state=tmp_path)


def test_the_kept_list_covers_no_file_of_a_rule(watch_list, tmp_path):
    """A rule whose file is missing refuses the start, also with a folder of state."""
    watch_list("evil.com")
    settings = WatchedNameSettings(watch=(WatchRule(name="r", file=str(tmp_path / "gone")),))
    with pytest.raises(SettingsError, match=r"gone: No such file.*of the rule 'r'"):
        engine(settings, state=tmp_path)
