"""The signatures that ship with dnstrail, over a data source that answers from a map."""

from __future__ import annotations

import re

import dns.name
import pytest

from builders.costly import COSTLY, calls_in
from builders.dns_builders import reply, rr
from dnstrail.captured import ASKER_SEEN, Captured, Process
from dnstrail.datasource import DataSources
from dnstrail.dns.names import lookup_key
from dnstrail.errors import DataNotFound, SettingsError, Unavailable
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXEC, SCHED_PROCESS_EXIT, Event
from dnstrail.signature import Signal
from dnstrail.testing import dns_query
from dnstrail_signatures.builtin.dns_rare_type import DnsRareType, DnsRareTypeSettings
from dnstrail_signatures.builtin.e2e_dns_data_source import E2eDnsDataSource
from dnstrail_signatures.builtin.watched_name import WATCH_LIST, WatchedName, WatchedNameSettings, read_watch_list
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.load import find, load
from live.workers import response

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


@pytest.mark.parametrize("signature", [E2eDnsDataSource, WatchedName])
def test_without_its_data_source_it_does_not_start(signature):
    """A signature that needs the data source does not start without it."""
    running = Engine([signature], DataSources(), [].append)
    assert (running.signatures, running.counters["not_started"]) == ([], 1)


@pytest.fixture
def watch_list(tmp_path, monkeypatch):
    """Return a function that writes the watch list of the signature."""

    def write(text):
        path = tmp_path / "list.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv(WATCH_LIST, str(path))
        return path

    return write


def answered(question, *records):
    return Event(NET_PACKET_DNS, Captured(1, response(question, *records)), ("s", 1))


ALIASES = ("shop.com 60 CNAME x.cdn.net.", "x.cdn.net 60 CNAME in.Evil.com.", "in.evil.com 60 A 192.0.2.1")


@pytest.mark.parametrize(
    ("question", "records", "watched"),
    [
        ("evil.com", ["evil.com 60 A 192.0.2.1"], "evil.com"),
        ("EVIL.com", ["EVIL.com 60 A 192.0.2.1"], "evil.com"),
        ("a.b.evil.com", ["a.b.evil.com 60 A 192.0.2.1"], "evil.com"),
        ("deep.bad.evil.com", ["deep.bad.evil.com 60 A 192.0.2.1"], "bad.evil.com"),
        ("shop.com", ALIASES, "evil.com"),
        ("bücher.example", ["bücher.example 60 A 192.0.2.1"], "xn--bcher-kva.example"),
        ("good.com", ["good.com 60 A 192.0.2.1"], None),
        ("notevil.com", ["notevil.com 60 A 192.0.2.1"], None),
        ("com", ["com 60 A 192.0.2.1"], None),
        ("evil.com.org", ["evil.com.org 60 A 192.0.2.1"], None),
        ("evil.com", [], None),
        ("commented.com", ["commented.com 60 A 192.0.2.1"], None),
    ],
)
def test_watched_names_are_reported(watch_list, question, records, watched):
    """An answer is reported if it leads to a watched name, to a name below it, or by an alias; a lookalike is not."""
    watch_list("# bad ones\nEvil.com.\nbad.evil.com # below\n\nbücher.example\n#commented.com\n")
    key = lookup_key(question)
    known = Known(**{key: answer(ADDRESSES, [key])})
    running, found = engine(WatchedName, known)
    running.on_event(answered(question, *records))
    assert running.counters["errors"] == 0
    expected = {"watched_name": watched, "outcome": "answered", **answer(ADDRESSES, [key])}
    assert [finding.data for finding in found] == ([expected] if watched else [])
    assert bool(known.asked) == bool(watched)


def test_a_watched_name_is_reported_at_its_asker_alone(watch_list):
    """A capture that has another one nearer to its asker is not reported again."""
    watch_list("evil.com")
    running, found = engine(WatchedName, Known(**{"evil.com": answer(ADDRESSES, ["evil.com"])}))
    payload = response("evil.com", "evil.com 60 A 192.0.2.1")
    for args in ({}, {ASKER_SEEN: True}):
        running.on_event(Event(NET_PACKET_DNS, Captured(1, payload, args=args), ("s", 1)))
    assert len(found) == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", bytes(12), response("evil.com", "evil.com 60 A 192.0.2.1")[:20]],
    ids=["none", "no DNS", "no question", "cut short"],
)
def test_a_payload_without_an_answer_is_ignored(watch_list, payload):
    """A payload that is no DNS answer is ignored without an error."""
    watch_list("evil.com")
    running, found = engine(WatchedName, Known(**{"evil.com": answer(ADDRESSES, ["evil.com"])}))
    running.on_event(Event(NET_PACKET_DNS, Captured(1, payload)))
    assert (found, running.counters["errors"]) == ([], 0)


def test_a_watched_name_that_the_cache_does_not_hold_is_not_reported(watch_list):
    """A watched name that is not in the cache is not reported, without an error; a missing cache is counted."""
    watch_list("evil.com")
    for problem, unavailable in ((DataNotFound("x"), 0), (Unavailable("ipc:///x", 1.0), 1)):
        running, found = engine(WatchedName, Known(**{"evil.com": problem}))
        running.on_event(answered("evil.com", "evil.com 60 A 192.0.2.1"))
        assert (found, running.counters["unavailable"], running.counters["errors"]) == ([], unavailable, 0)


def test_the_list_that_ships_is_read(monkeypatch):
    """Without a list of the user, the signature reads the list that ships with dnstrail."""
    monkeypatch.delenv(WATCH_LIST, raising=False)
    running, _ = engine(WatchedName, Known())
    assert running.signatures[0].watched


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("good.com\na..b\n", ", line 2: 'a..b' is not a domain name"),
        (b"\xff\xfe", ": 'utf-8' codec can't decode"),
        ("# nothing\n\n  \n", ": it has no name"),
    ],
    ids=["not a name", "not UTF-8", "empty"],
)
def test_a_bad_list_is_refused(watch_list, text, error):
    """An unreadable list, a line that is not a name, or no name at all is a SettingsError that names file and line."""
    path = watch_list(text)
    with pytest.raises(SettingsError, match=re.escape(f"watch list {path}{error}")):
        read_watch_list(path)
    with pytest.raises(SettingsError, match=re.escape(f"watch list {path}{error}") + ".*DNSTRAIL_WATCH_LIST"):
        engine(WatchedName, Known())


@pytest.mark.parametrize("name", ["none.txt", "."], ids=["not there", "a folder"])
def test_a_list_that_is_not_there_is_refused(tmp_path, name):
    """A path that is not a file is a SettingsError that names it."""
    with pytest.raises(SettingsError, match=f"watch list {tmp_path / name}: "):
        read_watch_list(tmp_path / name)


def test_the_last_good_list_applies_after_a_restart(watch_list, tmp_path):
    """With a folder of state a signature whose list is gone starts with the list from before, and has a fault."""
    path = watch_list("evil.com\n# no name\na\\032b.com\n")
    before = engine(WatchedName, Known(), state=tmp_path)[0].signatures[0].watched
    path.unlink()
    after = engine(WatchedName, Known(), state=tmp_path)[0]
    assert after.signatures[0].watched == before == {"evil.com", "a\\032b.com"}
    assert str(path) in after.faults["WATCHED_NAME"]


def test_the_kept_list_of_another_file_does_not_apply(watch_list, tmp_path, monkeypatch):
    """A list that was kept of one file does not stand in for another file that is missing."""
    watch_list("evil.com")
    engine(WatchedName, Known(), state=tmp_path)
    monkeypatch.setenv(WATCH_LIST, str(tmp_path / "another"))
    with pytest.raises(SettingsError, match="another: No such file"):
        engine(WatchedName, Known(), state=tmp_path)


@pytest.mark.parametrize("payload", COSTLY.values(), ids=COSTLY)
def test_the_work_for_one_message_is_linear_in_its_size(watch_list, payload):
    """A chain of long aliases costs a few calls for each byte of the message."""
    watch_list("evil.com\nno.labels.of.this")
    running, _ = engine(WatchedName, Known())
    event = Event(NET_PACKET_DNS, Captured(1, payload))
    assert calls_in(lambda: running.on_event(event)) < 6 * len(payload)
    assert running.counters["errors"] == 0


@pytest.mark.parametrize(
    ("labels", "watched"),
    [([b"a", b"evil", b"com"], "evil.com"), ([b"a.evil", b"com"], None), ([b"a\\", b"evil", b"com"], "evil.com")],
    ids=["three labels", "a dot in a label", "a backslash in a label"],
)
def test_a_dot_within_a_label_separates_no_names(watch_list, labels, watched):
    """A name lies below a watched name by its labels, not by its text."""
    watch_list("evil.com")
    name = dns.name.Name([*labels, b""])
    payload = reply(name, "A", rr(name, "A", "192.0.2.1"))
    key = lookup_key(name.to_text())
    running, found = engine(WatchedName, Known(**{key: answer(ADDRESSES, [key])}))
    running.on_event(Event(NET_PACKET_DNS, Captured(1, payload)))
    assert [finding.data["watched_name"] for finding in found] == ([watched] if watched else [])


def test_a_watched_address_is_found_by_its_reverse_name(watch_list):
    """A reverse name in the list covers the question for it."""
    watch_list("1.2.0.192.in-addr.arpa")
    running, found = engine(WatchedName, Known(**{"192.0.2.1": answer([], ["a.com"])}))
    running.on_event(answered("1.2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa 60 PTR a.com."))
    assert [finding.data["watched_name"] for finding in found] == ["192.0.2.1"]


def test_a_list_is_read_again(watch_list):
    """A reload replaces the list; a list that is wrong leaves the old one in place."""
    watch_list("evil.com")
    running, _ = engine(WatchedName, Known())
    signature = running.signatures[0]
    watch_list("worse.com")
    running.on_signal(Signal("source_complete"))
    assert signature.watched == {"evil.com"}
    running.on_signal(Signal("reload"))
    assert signature.watched == {"worse.com"}
    watch_list("a..b")
    with pytest.raises(SettingsError):
        signature.reload()
    assert signature.watched == {"worse.com"}


def test_the_settings_name_a_list(tmp_path, watch_list):
    """A list of the settings comes before the one of the environment."""
    watch_list("evil.com")
    own = tmp_path / "own.txt"
    own.write_text("own.com\n")
    cls = type("Own", (WatchedName,), {"settings": WatchedNameSettings(str(own))})
    assert engine(cls, Known())[0].signatures[0].watched == {"own.com"}


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
