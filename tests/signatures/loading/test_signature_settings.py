"""The settings of signatures: the tables of the file, and the findings that they suppress or rate.

Tests of dnstrail_signatures.loading.scope.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from dnstrail import Signature, SignatureMetadata
from dnstrail.captured import Captured, Flow, Process
from dnstrail.datasource import DataSources
from dnstrail.errors import SettingsError
from dnstrail.events import NET_TCP_CONNECT, Event
from dnstrail.process.config_file import ConfigFile
from dnstrail.signature import EventSelector
from dnstrail.testing import SignatureRun, dns_response
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.load import OF_FLEET, find, load
from dnstrail_signatures.loading.signature_settings import enabled, sets, settings_of
from live.processes import dnstrail


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a signature of the test."""

    least: int = 25
    suffixes: tuple[str, ...] = ("example",)


class Every(Signature):
    """Reports every event, with its own settings."""

    metadata = SignatureMetadata("T-1", "1", "Every", "EVERY", properties={"Severity": 1, "Category": "c"})
    selected_events = (EventSelector(name="net_packet_dns"), EventSelector(name=NET_TCP_CONNECT))
    settings = Thresholds()

    def on_event(self, event):
        self.report(event, least=self.settings.least)


class Plain(Signature):
    """Reports every finding of the first signature."""

    metadata = SignatureMetadata("T-2", "1", "Plain", "PLAIN")
    selected_events = (EventSelector(name="EVERY"),)

    def on_event(self, event):
        self.report(event)


def loaded(text, *classes):
    return settings_of(ConfigFile(Path("/f.toml"), tomllib.loads(text)), classes or (Every, Plain))


def findings(text, *events):
    """Return the findings on some events with a settings file, and the engine."""
    found = []
    engine = Engine([Every, Plain], DataSources(), found.append, settings=loaded(text))
    for event in events:
        engine.on_event(event)
    return found, engine


QUESTION = dns_response("www.corp.example", "www.corp.example 60 A 192.0.2.1", at=1_000.0)


def test_a_signature_without_a_table_has_its_defaults():
    """Without a table a signature runs with the settings of its class."""
    found, engine = findings("", QUESTION)
    assert [finding.metadata.event_name for finding in found] == ["EVERY", "PLAIN"]
    assert found[0].data == {"least": 25}
    assert engine.suppressed == {}


def test_a_signature_receives_its_own_settings():
    """The keys of the table replace the defaults, one by one, on the instance and not on the class."""
    found, engine = findings("[signature.T-1]\nleast = 7\n", QUESTION)
    assert found[0].data == {"least": 7}
    assert engine.signatures[0].settings == Thresholds(7)
    assert Every.settings == Thresholds()


def test_a_test_of_a_signature_passes_settings():
    """`SignatureRun` gives a signature settings of a test."""
    assert SignatureRun(Every, settings=Thresholds(3)).event(QUESTION)[0].data == {"least": 3}


def test_a_disabled_signature_does_not_start():
    """A signature with `enabled = false` is not started; the others are."""
    assert enabled([Every, Plain], loaded("[signature.T-1]\nenabled = false\n")) == [Plain]


def test_a_signature_may_be_off_until_it_is_enabled():
    """A signature whose own settings have `enabled` False is off, until the file enables it."""

    class Off(Every):
        settings = msgspec.defstruct("Own", [("enabled", bool, False)], frozen=True)()

    assert not loaded("", Off)["T-1"].common.enabled
    assert loaded("[signature.T-1]\nenabled = true\n", Off)["T-1"].common.enabled


def test_selected_signatures_alone_run():
    """A signature that the command line selects runs although it is off, and no other does."""

    class Off(Every):
        settings = msgspec.defstruct("Own", [("enabled", bool, False)], frozen=True)()

    config = ConfigFile(Path("/f.toml"), tomllib.loads("[signature.T-1]\nenabled = false\n"))
    settings = settings_of(config, (Off, Plain), (Off.metadata.event_name,))
    assert [settings[id_].common.enabled for id_ in ("T-1", "T-2")] == [True, False]


def test_a_table_has_the_name_that_findings_show():
    """The name of the event and the id name the same table, in every check; both at once are refused."""
    for name in ("EVERY", "T-1"):
        assert enabled([Every, Plain], loaded(f"[signature.{name}]\nenabled = false\n")) == [Plain]
        assert sets(ConfigFile(Path("/f.toml"), {"signature": {name: {"least": 7}}}), Every)
        with pytest.raises(SettingsError, match=rf"\[signature.{name}\] least: Expected `int`"):
            loaded(f"[signature.{name}]\nleast = 'x'")
    with pytest.raises(SettingsError, match="the same signature as"):
        loaded("[signature.EVERY]\nleast = 7\n[signature.T-1]\nseverity = 3\n")


def test_the_severity_of_findings_is_set():
    """`severity` replaces the property of the findings; the others stay."""
    found, _ = findings("[signature.T-1]\nseverity = 3\n", QUESTION)
    assert found[0].metadata.properties == {"Severity": 3, "Category": "c"}
    assert Every.metadata.properties["Severity"] == 1


@pytest.mark.parametrize(("until", "reported"), [("1970-01-01T00:16:40Z", True), ("1970-01-01T00:16:41Z", False)])
def test_a_mute_ends(until, reported):
    """A mute suppresses findings on events before its end, by the time of the event; they are counted."""
    found, engine = findings(f'[signature.T-1]\nmute = {{reason = "a test", until = {until}}}\n', QUESTION)
    assert [finding.metadata.event_name for finding in found] == (["EVERY", "PLAIN"] if reported else [])
    assert engine.suppressed == ({} if reported else {"EVERY": 1})
    assert engine.findings["EVERY"] == reported


CURL = Process(
    7, "curl", "/usr/bin/curl", container_id="0123456789abcdef", container_name="web", container_image="nginx"
)
CONNECT = Event(
    NET_TCP_CONNECT,
    Captured(1, flow=Flow(bytes(4), 0, bytes([198, 51, 100, 7]), 443), process=CURL),
    args={"dst_dns": ["likely.example", "rival.example"]},
)
OF_ROOT, OF_ALICE = (
    Event(NET_TCP_CONNECT, Captured(1, process=Process(7, "curl", unit=f"{user}web.service", slice=f"{user}a.slice")))
    for user in ("", "alice/")
)
LABELLED = msgspec.structs.replace(CURL, container_labels=(("app", "web"), ("team", "nginx")))
OF_USER = msgspec.structs.replace(LABELLED, container_id=f"alice/{CURL.container_id}", container_name="alice/web")
NAMELESS = Event(NET_TCP_CONNECT, Captured(1, process=msgspec.structs.replace(OF_USER, container_name="")))
ALICES = Event(NET_TCP_CONNECT, Captured(1, process=OF_USER))
IN_WEB = Event(NET_TCP_CONNECT, Captured(1, process=LABELLED))
IN_SHOP = Event(
    NET_TCP_CONNECT, Captured(1, process=msgspec.structs.replace(CURL, container_labels=(("app", "shop"),)))
)
ESCAPED = dns_response(r"evil\.corp.example", r"evil\.corp.example 60 A 192.0.2.1")
REVERSE = dns_response("7.2.0.192.in-addr.arpa PTR", "7.2.0.192.in-addr.arpa 60 PTR www.corp.example.")
ALLOWED = {
    "a name": ("names = ['www.corp.example']", QUESTION, True),
    "a name above": ("names = ['Corp.Example.']", QUESTION, True),
    "a name above, as watch lists write it": ("names = ['*.corp.example']", QUESTION, True),
    "the name itself, so written": ("names = ['*.www.corp.example']", QUESTION, True),
    "a reverse name": ("names = ['7.2.0.192.in-addr.arpa']", REVERSE, True),
    "the address of a reverse name": ("names = ['192.0.2.7']", REVERSE, True),
    "a zone of reverse names": ("names = ['2.0.192.in-addr.arpa']", REVERSE, True),
    "another zone of reverse names": ("names = ['3.0.192.in-addr.arpa', '192.0.2.8']", REVERSE, False),
    "a name that ends alike": ("names = ['orp.example']", QUESTION, False),
    "a name below": ("names = ['a.www.corp.example']", QUESTION, False),
    "a dot within a label": ("names = ['corp.example']", ESCAPED, False),
    "the likeliest name of a connection": ("names = ['likely.example']", CONNECT, True),
    "a rival": ("names = ['rival.example']", CONNECT, False),
    "a process": ("processes = ['curl']", CONNECT, True),
    "a path": ("processes = ['/usr/bin/curl']", CONNECT, True),
    "another process": ("processes = ['/usr/bin/cur', 'usr']", CONNECT, False),
    "no process": ("processes = ['curl']", QUESTION, False),
    "a container": ("containers = ['web']", CONNECT, True),
    "an image": ("containers = ['nginx']", CONNECT, True),
    "a short id": ("containers = ['0123456789ab']", CONNECT, True),
    "too short an id": ("containers = ['0123']", CONNECT, False),
    "a pattern of a name": ("containers = ['w*']", CONNECT, True),
    "a pattern of another name": ("containers = ['*.shop']", CONNECT, False),
    "a pattern of an image": ("containers = ['ngin*']", CONNECT, False),
    "containers of root alone": ("containers = ['web', '*', 'nginx', '0123456789ab', '*web', '*/db']", ALICES, False),
    "a container of a user": ("containers = ['alice/web']", ALICES, True),
    "a pattern of containers of users": ("containers = ['*/web']", ALICES, True),
    "a container of a user without a name": ("containers = ['alice/*']", NAMELESS, True),
    "an id of a user": ("containers = ['alice/0123456789ab']", ALICES, True),
    "too short an id of a user": ("containers = ['alice/0123']", ALICES, False),
    "a container of another user": ("containers = ['bob/web', 'bob/*']", ALICES, False),
    "a container of root with a user": ("containers = ['alice/web', '*/*']", CONNECT, False),
    "a label": ("containers = ['app=web']", IN_WEB, True),
    "a pattern of a label": ("containers = ['team=ngin?']", IN_WEB, True),
    "another label": ("containers = ['app=nginx', 'team', 'web=app', 'a*=web']", IN_WEB, False),
    "a label of root alone": ("containers = ['app=web', 'bob/app=web']", ALICES, False),
    "a label of a user": ("containers = ['alice/app=web']", ALICES, True),
    "a label that is a name": ("containers = ['shop']", IN_SHOP, False),
    "a unit": ("units = ['web.service']", OF_ROOT, True),
    "a slice": ("units = ['a.slice']", OF_ROOT, True),
    "a pattern of units": ("units = ['we?.*']", OF_ROOT, True),
    "another unit": ("units = ['eb.service', 'web.scope']", OF_ROOT, False),
    "a unit of a user without the user": ("units = ['web.service', 'a.slice', '*', '*web.service']", OF_ALICE, False),
    "a unit of a user": ("units = ['alice/web.service']", OF_ALICE, True),
    "a unit of another user": ("units = ['bob/web.service', 'bob/*']", OF_ALICE, False),
    "a unit of root with a user": ("units = ['alice/web.service', '*/*']", OF_ROOT, False),
    "no unit": ("units = ['*']", CONNECT, False),
    "an address": ("addresses = ['198.51.100.7']", CONNECT, True),
    "a network": ("addresses = ['2001:db8::/32', '198.51.100.0/24']", CONNECT, True),
    "another network": ("addresses = ['198.51.100.8/29']", CONNECT, False),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_an_allow_list_suppresses(name):
    """A finding is suppressed if its event is about something on the list; nothing that merely looks alike counts."""
    entry, event, suppressed = ALLOWED[name]
    found, engine = findings(f"[signature.T-1.allow]\n{entry}\n", event)
    assert [finding.metadata.id for finding in found] == ([] if suppressed else ["T-1", "T-2"])
    assert engine.suppressed["EVERY"] == suppressed


ONLY = {
    "a container": ("containers = ['web']", CONNECT, True),
    "a short id": ("containers = ['0123456789ab']", CONNECT, True),
    "another container": ("containers = ['db', '0123']", CONNECT, False),
    "a pattern of a container": ("containers = ['*eb']", CONNECT, True),
    "a label": ("containers = ['app=w*']", IN_WEB, True),
    "a label of a user": ("containers = ['app=w*']", ALICES, False),
    "an image": ("images = ['nginx']", CONNECT, True),
    "an image of a user": ("images = ['nginx']", ALICES, False),
    "containers of root": ("containers = ['*', 'nginx']", ALICES, False),
    "a container of a user": ("containers = ['alice/*']", ALICES, True),
    "the name of a container as image": ("images = ['web']", CONNECT, False),
    "a program": ("programs = ['/usr/bin/curl']", CONNECT, True),
    "the file of a program": ("programs = ['wget', 'curl']", CONNECT, True),
    "another program": ("programs = ['/bin/curl', 'bin']", CONNECT, False),
    "a user": ("users = [0]", CONNECT, True),
    "the name of a user": ("users = ['root']", CONNECT, True),
    "another user": ("users = [1]", CONNECT, False),
    "a unit": ("units = ['web.service']", OF_ROOT, True),
    "a unit of a user without the user": ("units = ['web.service', '*']", OF_ALICE, False),
    "all units of a user": ("units = ['alice/*']", OF_ALICE, True),
    "no unit": ("units = ['*']", CONNECT, False),
    "all lists": ("images = ['nginx']\nprograms = ['curl']\nusers = [1, 'root']", CONNECT, True),
    "one list of two": ("images = ['nginx']\nprograms = ['wget']", CONNECT, False),
    "no process": ("users = [0]", QUESTION, False),
    "an allowed name": ("users = [0]\n[signature.T-1.allow]\nnames = ['likely.example']", CONNECT, False),
}


@pytest.mark.parametrize("name", ONLY)
def test_a_signature_is_limited(name):
    """A signature with `only` reports an event that matches each of the lists; other findings count as suppressed."""
    entry, event, reported = ONLY[name]
    found, engine = findings(f"[signature.T-1.only]\n{entry}\n", event)
    assert [finding.metadata.id for finding in found] == (["T-1", "T-2"] if reported else [])
    assert engine.suppressed["EVERY"] == (not reported)


REFUSED = {
    "a key of only": (
        "[signature.T-1.only]\nimage = []",
        "image: unknown key in [signature.T-1.only]: did you mean images?",
    ),
    "a user": (
        "[signature.T-1.only]\nusers = ['no-such-user']",
        "[signature.T-1] only: 'no-such-user' is no user of this host: use its number",
    ),
    "a unit without its ending": (
        "[signature.T-1.only]\nunits = ['ssh']",
        "[signature.T-1] only: 'ssh' is no unit or slice: write its ending, as in 'ssh.service'",
    ),
    "an allowed unit without its ending": (
        "[signature.T-1.allow]\nunits = ['alice/web']",
        "[signature.T-1] allow: 'alice/web' is no unit or slice: write its ending, as in 'alice/web.service'",
    ),
    "a negative user": ("[signature.T-1.only]\nusers = [-1]", "[signature.T-1] only.users[0]: Expected `int` >= 0"),
    "an unknown signature": ("[signature.EVER]", "EVER: unknown key in [signature]: did you mean EVERY?"),
    "a signature of the fleet": (
        "[signature.FLEET_NAME_SPREAD]\nhosts = 3",
        "FLEET_NAME_SPREAD: a signature of the fleet: its table belongs in /etc/dnstrail/fleet-signatures.toml",
    ),
    "no table": ("signature.T-1 = 7", "signature.T-1: must be a table"),
    "an unknown key": ("[signature.T-1]\nleats = 7", "leats: unknown key in [signature.T-1]: did you mean least?"),
    "a key of another signature": (
        "[signature.T-2]\nleast = 7",
        "least: unknown key in [signature.T-2]: known: enabled,",
    ),
    "a wrong value": ("[signature.T-1]\nleast = 'x'", "[signature.T-1] least: Expected `int`, got `str`"),
    "a wrong value of all": ("[signature.T-2]\nenabled = 1", "[signature.T-2] enabled: Expected `bool`, got `int`"),
    "a severity": ("[signature.T-1]\nseverity = 4", "[signature.T-1] severity: Expected `int` <= 3"),
    "no reason": ("[signature.T-1]\nmute = {until = 2026-01-01T00:00:00Z}", "[signature.T-1] mute: Object missing"),
    "no zone": (
        "[signature.T-1]\nmute = {reason = 'x', until = 2026-01-01T00:00:00}",
        "[signature.T-1] mute.until: Expected `datetime` with a timezone component",
    ),
    "a key of mute": (
        "[signature.T-1]\nmute = {reasons = 'x'}",
        "reasons: unknown key in [signature.T-1.mute]: did you mean reason?",
    ),
    "a key of allow": (
        "[signature.T-1.allow]\nname = []",
        "name: unknown key in [signature.T-1.allow]: did you mean names?",
    ),
    "a name": ("[signature.T-1.allow]\nnames = ['a..b']", "[signature.T-1] allow: 'a..b' is no domain name"),
    "a star within a name": (
        "[signature.T-1.allow]\nnames = ['www.*.example']",
        "[signature.T-1] allow: 'www.*.example' is no domain name",
    ),
    "a URL": (
        "[signature.T-1.allow]\nnames = ['https://a.example/']",
        "[signature.T-1] allow: 'https://a.example/' is no domain name",
    ),
    "every name": ("[signature.T-1.allow]\nnames = ['.']", "[signature.T-1] allow: '.' is no domain name"),
    "an empty text": (
        "[signature.T-1.allow]\nprocesses = ['']",
        "[signature.T-1] allow.processes[0]: Expected `str` of length >= 1",
    ),
    "an address": ("[signature.T-1.allow]\naddresses = ['x']", "[signature.T-1] allow: 'x' does not appear to be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_table_is_refused(name):
    """The error names the file and the key, and the nearest right one."""
    text, error = REFUSED[name]
    with pytest.raises(SettingsError, match=re.escape(f"settings file /f.toml: {error}")):
        loaded(text)


def test_a_table_of_no_signature_of_the_fleet_is_refused():
    """A worker of the fleet, to which such a table may belong, names the nearest signature of its own."""
    config = ConfigFile(Path("/f.toml"), {"signature": {"FLEET_NAME_SPRED": {}}})
    with pytest.raises(SettingsError, match=r"FLEET_NAME_SPRED: unknown key .* did you mean FLEET_NAME_SPREAD\?"):
        settings_of(config, load(find(group=OF_FLEET)))


def test_settings_cannot_be_named_like_those_of_all():
    """A signature with a setting named like one of all signatures is refused."""

    class Bad(Every):
        settings = msgspec.defstruct("Own", [("mute", bool, False)], frozen=True)()

    with pytest.raises(SettingsError, match="signature EVERY: its settings cannot be named mute"):
        loaded("", Bad)


@pytest.mark.parametrize(
    "command", [["--capture", "demo"], ["replay", "demo"], ["signatures"]], ids=lambda words: words[0]
)
def test_a_run_refuses_wrong_settings(tmp_path, command):
    """A wrong table of a signature is wrong usage for each command that runs signatures."""
    tmp_path.chmod(0o755)
    file = tmp_path / "f.toml"
    file.write_text("[signature.WATCHED_NAMES]\n")
    done = dnstrail(*command, "--config", file)
    assert done.returncode == 2
    assert done.stderr.endswith("unknown key in [signature]: did you mean WATCHED_NAME?\n")


def test_a_run_applies_the_settings(tmp_path):
    """The workers of a run read the file of the run: the severity is in the finding, and another name is allowed."""
    tmp_path.chmod(0o755)
    file = tmp_path / "f.toml"
    shown = '[dnstrail]\noutput = ["json"]\nevents = ["WATCHED_NAME"]\n'
    file.write_text(f"{shown}[signature.WATCHED_NAME]\nseverity = 0\n")
    done = dnstrail("--capture", "demo", "--config", file)
    assert [json.loads(line)["metadata"]["Properties"]["Severity"] for line in done.stdout.splitlines()] == [0]
    file.write_text(file.read_text() + 'allow = {names = ["updates.example"]}\n')
    done = dnstrail("--capture", "demo", "--config", file)
    assert (done.returncode, done.stdout) == (0, "")
