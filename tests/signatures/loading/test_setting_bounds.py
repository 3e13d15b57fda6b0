"""The settings of the built-in signatures: what never matches, or ends the detection, is refused.

Tests of dnstrail_signatures.detection.setting_types.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from builders.detection_events import CURL, connected, findings, queries
from dnstrail.errors import SettingsError
from dnstrail.process.config_file import ConfigFile
from dnstrail.testing import dns_response, event
from dnstrail_signatures.builtin.dns_foreign_resolver import DnsForeignResolver
from dnstrail_signatures.builtin.dns_tunnel import DnsTunnel
from dnstrail_signatures.builtin.dns_txt_code import DnsTxtCode
from dnstrail_signatures.builtin.encrypted_dns import EncryptedDns
from dnstrail_signatures.loading.load import OF_FLEET, find, load
from dnstrail_signatures.loading.signature_settings import settings_of

BUILT_IN = [*load(find()), *load(find(group=OF_FLEET))]
NUMBERS = [
    (cls, key, value)
    for cls in BUILT_IN
    for key, value in (msgspec.structs.asdict(cls.settings) if cls.settings else {}).items()
    if isinstance(value, int | float) and not isinstance(value, bool)
]
WITHOUT = {"subjects", "queries", "distinct", "texts", "names", "places", "domains", "hosts"}  # 0 of them is nothing


def own(cls, **values):
    """Return the settings of a signature with some values of a file."""
    config = ConfigFile(Path("/f.toml"), {"signature": {cls.metadata.event_name: values}})
    return settings_of(config, [cls])[cls.metadata.id].own


def ids(value):
    return value.metadata.event_name if isinstance(value, type) else str(value)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
@pytest.mark.parametrize(("cls", "key", "default"), NUMBERS, ids=ids)
def test_a_number_without_sense_is_refused(cls, key, default, value):
    """No number of a built-in signature is negative or infinite: the error names the file, the table and the key."""
    with pytest.raises(SettingsError, match=rf"/f.toml: \[signature.{cls.metadata.event_name}\] {key}: Expected"):
        own(cls, **{key: value})


@pytest.mark.parametrize(("cls", "key", "default"), NUMBERS, ids=ids)
def test_a_count_of_nothing_is_refused(cls, key, default):
    """A gate of no values, and a table without room, are refused; other numbers may be 0."""
    assert own(cls, **{key: default}) == cls.settings
    if key in WITHOUT or (cls.metadata.event_name, key) == ("FLEET_NAME_SPREAD", "seconds"):
        with pytest.raises(SettingsError, match=rf"{key}: Expected `.*` >=? [0-9.]+"):
            own(cls, **{key: 0})
    else:
        assert getattr(own(cls, **{key: 0}), key) == 0


REFUSED = [
    ("DNS_RARE_TYPE", "types", -5, "types[0]: Expected `int` >= 0"),
    ("DNS_RARE_TYPE", "types", 65536, "types[0]: Expected `int` <= 65535"),
    ("ENCRYPTED_DNS", "ports", 65536, "ports[0]: Expected `int` <= 65535"),
    ("CONNECTION_WITHOUT_DNS", "ports", -1, "ports[0]: Expected `int` >= 0"),
    ("DNS_TXT_CODE", "commands", "", "commands[0]: Expected `str` of length >= 1"),
    ("DNS_TUNNEL", "known", "a..b", "known: 'a..b' is no domain name"),
    ("DNS_TUNNEL", "known", ".", "known: '.' is no domain name"),
    ("DNS_TUNNEL", "known", "a.*.example", "known: 'a.*.example' is no domain name"),
    ("DNS_TUNNEL", "known", "*.", "known: '*.' is no domain name"),
    ("ENCRYPTED_DNS", "names", "dns.*", "names: 'dns.*' is no domain name"),
    ("ENCRYPTED_DNS", "names", "192.0.2.1", "names: '192.0.2.1' is no domain name"),
    ("ENCRYPTED_DNS", "addresses", "dns.example", "addresses: 'dns.example' is no address"),
    ("DNS_FOREIGN_RESOLVER", "known", "192.0.2.0/24", "known: '192.0.2.0/24' is no address"),
]


@pytest.mark.parametrize(("name", "key", "entry", "error"), REFUSED)
def test_an_entry_that_never_matches_is_refused(name, key, entry, error):
    """An entry of a list that no event can have is an error that names the file, the table and the key."""
    [cls] = [cls for cls in BUILT_IN if cls.metadata.event_name == name]
    with pytest.raises(SettingsError, match=rf"/f.toml: \[signature.{name}\]:? {re.escape(error)}"):
        own(cls, **{key: [entry]})


def with_settings(cls, events, **values):
    """Return the findings of a signature with some values of a file."""
    return findings(cls, events, **msgspec.structs.asdict(own(cls, **values)))


def test_names_and_addresses_match_in_any_spelling():
    """Names and addresses of a file match those of events in any case, with a dot at the end, and in long form.

    A name covers those below it, wherever its registered domain begins, also if it is written as in a watch list.
    """
    doh = connected("192.0.2.1", dst_dns=["doh.corp.example"])
    for name in ("DoH.Corp.Example.", "*.corp.example", "*.doh.corp.example"):
        assert with_settings(EncryptedDns, [doh], names=[name])
    assert with_settings(EncryptedDns, [connected("2001:db8::1")], addresses=["2001:DB8:0::1"])
    long = queries([f"{place:052x}.avts.corp.com" for place in range(25)])
    assert with_settings(DnsTunnel, long)
    for known, reported in (("Corp.COM.", 0), ("*.corp.com", 0), ("avts.corp.com", 0), ("com", 0), ("b.corp.com", 1)):
        assert len(with_settings(DnsTunnel, long, known=[known])) == reported
    payload = dns_response("a.example", "a.example 60 A 192.0.2.1").captured.payload
    foreign = event("net_packet_dns", payload, process=CURL, args={"foreign": True, "src": "2001:db8::53"})
    assert with_settings(DnsForeignResolver, [foreign])
    assert not with_settings(DnsForeignResolver, [foreign], known=["[2001:DB8::0:53]"])
    text = dns_response("a.example.com TXT", 'a.example.com 60 TXT "run powershell"', process=CURL)
    assert with_settings(DnsTxtCode, [text], commands=["PowerShell"])
