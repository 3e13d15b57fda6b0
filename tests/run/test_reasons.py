"""The rule by which an attempt was refused, for every kind of refusal."""

from __future__ import annotations

import msgspec
import pytest

from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.enforce.refusals import ASK, BIND, REACH, SOCKET, STATE
from dnstrail_run.report import Conflict, Coverage, DnsServer, Program, Refusal, RunReport
from dnstrail_run.verdict import reason_of

APP = Program(7, "app", "/usr/bin/app")
NAME, ADDRESS, SERVER = "a.example", "192.0.2.1", "192.0.2.53"
LISTED = parse_allow_list(f"{NAME}:80,443\n198.51.100.0/24:22\n")
REFUSAL = Refusal(REACH, "", ADDRESS, 80, "tcp", APP, 1)
NOTHING = RunReport([], 0, [], [], [], [], [], Coverage(True, [], ""))
NO_ANSWER = f"{NAME} is in the list, but no answer of a resolver led to this address"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, f"the list has no {ADDRESS}"),
        ({"name": "b.example"}, f"the list has neither b.example nor {ADDRESS}"),
        ({"name": NAME}, NO_ANSWER),
        ({"name": NAME, "port": 22}, f"the list has {NAME} on ports 80,443, and not on 22"),
        ({"address": "198.51.100.7"}, "the list has 198.51.100.7 on port 22, and not on 80"),
        (
            {"port": 53, "address": SERVER},
            f"{SERVER} is no configured resolver, and the list has no entry `resolver {SERVER}`",
        ),
        ({"action": BIND, "port": 53}, "port 53 is refused as the own one, since the command could answer itself"),
        (
            {"action": ASK, "name": "b.example", "reason": "name", "type": "A"},
            "the list has no b.example",
        ),
        (
            {"action": ASK, "name": NAME, "reason": "type", "type": "TXT"},
            f"the entry of {NAME} does not have the type TXT",
        ),
        ({"action": ASK, "name": NAME, "reason": "resolver"}, f"the entry of {NAME} has other resolvers"),
        (
            {"action": ASK, "reason": "unreadable"},
            "it is not exactly one plain question, which carries nothing else",
        ),
        ({"action": STATE, "name": "b.example", "reason": "other"}, "the list has no b.example"),
        ({"action": STATE, "name": NAME, "reason": "other"}, NO_ANSWER),
        (
            {"action": STATE, "name": NAME, "reason": "other", "port": 8080},
            f"the list does not have {NAME} on port 8080",
        ),
        (
            {"action": STATE, "reason": "unstated"},
            "it began with no whole ClientHello or HTTP header; an entry with the word `unchecked` needs none",
        ),
        (
            {"action": STATE, "reason": "unstated", "transport": "udp"},
            "no name is read over UDP; an entry with the word `unchecked` needs none",
        ),
        ({"action": SOCKET, "address": "", "port": 0}, "only sockets of TCP and UDP are allowed"),
    ],
)
def test_the_rule_is_named(fields, reason):
    """Each refusal names the entry that is missing, or the rule that no entry changes."""
    assert reason_of(msgspec.structs.replace(REFUSAL, **fields), LISTED, NOTHING) == reason


def test_the_server_that_was_asked_is_named():
    """The reason names the servers on port 53 whose answers did not count, and the entry that changes this."""
    servers = [DnsServer(address, port, 1, APP) for address, port in ((SERVER, 53), (SERVER, 53), ("192.0.2.54", 5353))]
    seen = msgspec.structs.replace(NOTHING, foreign_dns=servers)
    reason = reason_of(msgspec.structs.replace(REFUSAL, name=NAME), LISTED, seen)
    assert reason == (f"{NO_ANSWER}. The command asked {SERVER}: the entry `resolver {SERVER}` makes its answers count")


def test_conflicting_answers_are_the_rule():
    """A name whose answers conflict is refused for this."""
    seen = msgspec.structs.replace(NOTHING, conflicts=[Conflict(NAME, [ADDRESS], ["198.51.100.9"], 0)])
    assert reason_of(msgspec.structs.replace(REFUSAL, name=NAME), LISTED, seen) == f"the answers for {NAME} conflict"
