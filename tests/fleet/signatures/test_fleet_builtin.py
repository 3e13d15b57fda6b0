"""The built-in signatures of the fleet, over a real store and its lookups.

Tests of dnstrail_fleet.signatures.builtin.fleet_new_domain, dnstrail_fleet.signatures.builtin.fleet_name_spread,
dnstrail_fleet.signatures.builtin.fleet_address_differs, dnstrail_fleet.signatures.builtin.fleet_name_alone,
dnstrail_fleet.signatures.source.
"""

from __future__ import annotations

import inspect
import re
import sys

import msgspec
import pytest

from builders.fleet import NOON, row
from builders.fleet_company import company, data_of
from dnstrail.errors import DataSourceMissing
from dnstrail.signature import Signature
from dnstrail.testing import SignatureRun
from dnstrail_fleet.row import DAY
from dnstrail_fleet.signatures.builtin.fleet_address_differs import FleetAddressDiffers
from dnstrail_fleet.signatures.builtin.fleet_name_alone import FleetNameAlone
from dnstrail_fleet.signatures.builtin.fleet_name_spread import FleetNameSpread
from dnstrail_fleet.signatures.builtin.fleet_new_domain import FleetNewDomain
from dnstrail_signatures.loading.load import OF_FLEET, find, load

BUILT_IN = load(find(group=OF_FLEET))
HOSTS = ("web1", "web2", "web3", "web4")


def test_a_domain_is_new_once() -> None:
    """Of all hosts, names and relations below a domain, the first one is reported, with its host and program."""
    with company(FleetNewDomain, learn=0) as them:
        [found] = them.say("web1", row("a.shop.example", "192.0.2.1"), row("b.shop.example", "192.0.2.2"))
        assert (found.data["domain"], found.event.host_name) == ("shop.example", "web1")
        assert found.event.executable.path == "/usr/bin/curl"
        assert them.say("web2", row("a.shop.example", at=NOON - 9)) == []
        assert data_of(them.say("web2", row("other.example"))) == [{"domain": "other.example", "name": "other.example"}]
        assert them.say("web2", row("example"), row("1.2.0.192.in-addr.arpa"), row("192.0.2.1", "a.example")) == []


def test_a_domain_that_is_learned_is_not_reported() -> None:
    """Within the time to learn nothing is reported, and what was learned is not reported later."""
    with company(FleetNewDomain, learn=2 * DAY) as them:
        assert them.say("web1", row("old.example", at=NOON - 3 * DAY), sent=NOON - 3 * DAY) == []
        assert them.say("web2", row("learned.example", at=NOON - 2 * DAY), sent=NOON - 2 * DAY) == []
        assert data_of(them.say("web1", row("new.example"), row("learned.example"))) == [
            {"domain": "new.example", "name": "new.example"}
        ]


def test_a_new_name_is_reported_once_enough_hosts_asked() -> None:
    """The host that completes the number leads to the finding, also if its answer was not the last one."""
    with company(FleetNameSpread, hosts=3, seconds=600, learn=0) as them:
        assert them.say("web1", row(), row(target="203.0.113.8")) == []
        assert them.say("web1", row(at=NOON + 1), sent=NOON + 1) == []
        assert them.say("web2", row(at=NOON + 9), sent=NOON + 9) == []
        [found] = them.say("web3", row(at=NOON + 5), sent=NOON + 9)
        assert found.data == {"name": "shop.example", "hosts": ["web1", "web3", "web2"], "seconds": 9}
        assert them.say("web4", row(at=NOON + 9), sent=NOON + 9) == []


@pytest.mark.parametrize(("late", "learn"), [(601, 0), (9, DAY)], ids=["too slow", "learned"])
def test_a_name_that_spreads_slowly_or_early_is_not_reported(late: int, learn: int) -> None:
    """Hosts that ask later than the time do not count; nor does a name of the time to learn."""
    with company(FleetNameSpread, hosts=2, seconds=600, learn=learn) as them:
        assert them.say("web1", row()) == []
        assert them.say("web2", row(at=NOON + late), sent=NOON + late) == []


def test_an_address_that_one_host_knows_otherwise_is_reported() -> None:
    """All others know the address by one domain, and one host by another; a name without a domain does not count."""
    with company(FleetAddressDiffers, hosts=3, learn=0) as them:
        for host in HOSTS:
            assert them.say(host, row("www.shop.example"), row("shop.example")) == []
        assert them.say("web1", row("intranet")) == []
        assert data_of(them.say("web4", row("bank.example", at=NOON + 1), sent=NOON + 1)) == [
            {"address": "203.0.113.7", "domain": "bank.example", "elsewhere": "shop.example", "hosts": [*HOSTS[:3]]}
        ]
        assert them.say("web4", row("login.bank.example", at=NOON + 2), sent=NOON + 2) == []


@pytest.mark.parametrize(
    "others",
    [
        [("web1", "shop.example"), ("web2", "shop.example")],
        [("web1", "shop.example"), ("web2", "shop.example"), ("web3", "cdn.example")],
        [("web1", "shop.example"), ("web2", "shop.example"), ("web3", "bank.example")],
    ],
    ids=["too few", "shared", "another host knows it"],
)
def test_an_address_of_several_domains_is_not_reported(others: list[tuple[str, str]]) -> None:
    """Too few hosts know it, or they know it by several domains."""
    with company(FleetAddressDiffers, hosts=3, learn=0) as them:
        for host, name in others:
            assert them.say(host, row(name)) == []
        assert them.say("web4", row("bank.example", at=NOON + 1), sent=NOON + 1) == []


def test_a_private_address_differs_by_right() -> None:
    """A private address means another machine in each network."""
    with company(FleetAddressDiffers, hosts=1, learn=0) as them:
        assert them.say("web1", row("shop.example", "10.0.0.1")) == []
        assert them.say("web2", row("bank.example", "10.0.0.1", at=NOON + 1), sent=NOON + 1) == []


def test_a_name_of_one_host_alone_is_reported_once_it_connects() -> None:
    """The host has known the name for a day: its next connection is reported, and no later one."""
    with company(FleetNameAlone, learn=0) as them:
        begin, later = NOON - 2 * DAY, row("c2.example", known=True, used=NOON + 9)
        assert them.say("web1", row("c2.example", at=begin, used=begin + 1), sent=begin + 1) == []
        assert them.say("web1", row("c2.example", known=True)) == []
        assert data_of(them.say("web1", later, sent=NOON + 9)) == [
            {"name": "c2.example", "address": "203.0.113.7", "since": begin, "used": NOON + 9}
        ]
        assert len(them.again()) == 1
        assert them.say("web1", row("c2.example", "203.0.113.8", used=NOON + 9), sent=NOON + 9) == []


@pytest.mark.parametrize(
    ("name", "address", "seconds", "learn", "other"),
    [
        ("c2.example", "203.0.113.7", DAY + 10, 0, ""),
        ("c2.example", "203.0.113.7", DAY, 1, ""),
        ("c2.example", "203.0.113.7", DAY, 0, "web2"),
        ("c2.example", "10.0.0.1", DAY, 0, ""),
        ("localdomain", "203.0.113.7", DAY, 0, ""),
    ],
    ids=["too new", "learned", "another host", "private", "no domain"],
)
def test_a_connection_to_an_ordinary_name_is_not_reported(
    name: str, address: str, seconds: int, learn: int, other: str
) -> None:
    """A name that is new, learned, known to another host, or without a domain, and a private address, are left out."""
    begin = NOON - DAY
    with company(FleetNameAlone, seconds=seconds, learn=learn * 2 * DAY) as them:
        assert them.say("web1", row(name, address, at=begin), sent=begin) == []
        if other:
            assert them.say(other, row(name, "192.0.2.1", at=NOON - 9)) == []
        assert them.say("web1", row(name, address, known=True, used=NOON + 9), sent=NOON + 9) == []


@pytest.mark.parametrize("cls", BUILT_IN)
def test_a_worker_of_a_host_cannot_run_it(cls: type[Signature]) -> None:
    """Without a store of a fleet it does not start, and the text names the command that has one."""
    with pytest.raises(DataSourceMissing, match="dnstrail fleet signatures"):
        SignatureRun(cls)


def test_entry_points_name_all() -> None:
    """The group of entry points holds each file of the folder, and their ids are distinct."""
    assert {*BUILT_IN} == {FleetAddressDiffers, FleetNameAlone, FleetNameSpread, FleetNewDomain}
    assert len({cls.metadata.id for cls in [*BUILT_IN, *load(find())]}) == len(BUILT_IN) + len(load(find()))


@pytest.mark.parametrize("cls", BUILT_IN)
def test_each_describes_itself(cls: type[Signature]) -> None:
    """Its file states what it sees and does not see, its false positives, its technique, and each setting."""
    text = inspect.getdoc(sys.modules[cls.__module__]) or ""
    assert re.findall(r"^([A-Z]\w+(?: \w+)?): ", text, re.MULTILINE) == [
        "Sees", "Cannot see", "False positives", "MITRE", "Settings"
    ]  # fmt: skip
    assert isinstance(cls.settings, msgspec.Struct)
    settings = text.partition("\nSettings: ")[2]
    assert [field for field in cls.settings.__struct_fields__ if f"`{field}`" not in settings] == []
    assert f"MITRE: {cls.metadata.properties['external_id']}." in text
