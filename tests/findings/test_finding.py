"""Findings as they arrive from the bus."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import msgspec
import pytest

from builders.findings import METADATA, STAMP, body_of, cause_of, connection, dns_answer, finding_of, transaction
from builders.writers import Script
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, NET_PACKET_DNS, NET_TCP_CONNECT
from dnstrail.signature import SignatureMetadata
from dnstrail_findings.finding import LONG, read_finding
from dnstrail_findings.output import Encode, Output
from dnstrail_findings.targets import FORMATS
from dnstrail_findings.worker import MOST, SeenIds


def test_a_finding_has_the_values_of_its_cause() -> None:
    """A finding about a response names its signature, its ends and its question."""
    found = finding_of()
    assert (found.id, found.signature_id, found.title, found.severity) == ("f1", "DT-9", "Relay resolved", 3)
    assert found.data == {"relay": "relay.example"}
    assert (found.cause.name, found.cause.client, found.cause.server) == (
        NET_PACKET_DNS,
        ("192.0.2.100", 40008),
        ("192.0.2.53", 53),
    )
    assert found.cause.question.name == "shop.example"
    assert [answer.data for answer in found.cause.message.answers] == ["relay.example", "198.51.100.66"]
    assert (found.shape.mark.start, found.shape.mark.turn, found.shape.mark.time) == ("s", 5, STAMP)


def test_a_finding_about_a_transaction_has_its_question_and_answers() -> None:
    """The cause of a finding of a rule has the ends, the question and the answers of the transaction."""
    cause = finding_of(transaction()).cause
    ends = ("192.0.2.100", 40008), ("192.0.2.53", 53)
    assert (cause.name, cause.client, cause.server) == (DNS_TRANSACTION, *ends)
    assert (cause.question.name, cause.question.type) == ("shop.example", "A")
    assert [answer.data for answer in cause.message.answers] == ["relay.example", "198.51.100.66"]
    assert finding_of(transaction(r"a\.b\032c.example")).cause.question.name == r"a\.b\032c.example"


def test_a_transaction_without_an_answer_is_a_question() -> None:
    """A question that nobody answered has no response code."""
    message = finding_of(transaction(relations=[], rcode=None)).cause.message
    assert (message.qr, message.response_code, message.answers) == (0, "", [])


def test_the_relations_of_a_long_finding_are_left_out() -> None:
    """A finding about a transaction with many relations keeps its question alone."""
    many = [("shop.example", "A", "x" * 250, 60)] * (LONG // 250)
    message = finding_of(transaction(relations=many)).cause.message
    assert (message.questions[0].name, message.answers) == ("shop.example", [])


def test_a_finding_about_a_connection_has_its_names() -> None:
    """The server of a connection has the names of `dst_dns`."""
    cause = finding_of(connection()).cause
    assert (cause.name, cause.server, cause.names) == (
        NET_TCP_CONNECT,
        ("198.51.100.66", 443),
        ["shop.example", "other.example"],
    )


def test_an_event_of_the_cache_is_its_own_cause() -> None:
    """An event without a signature has the name of the event, no severity, and its arguments."""
    found = read_finding(msgpack.packb({"timestamp": 5, "eventName": "x", "args": [{"name": "src", "value": "::1"}]}))
    assert (found.title, found.signature_id, found.severity, found.id) == ("x", "x", None, "")
    assert found.cause.client == ("::1", 0)


def test_values_of_the_wrong_type_count_as_unknown() -> None:
    """Data of a signature may have any type: a value that is no address and no port is unknown."""
    metadata = SignatureMetadata("X", "1", "x", "X", properties={"Severity": "high", "Category": 7})
    found = read_finding(body_of(connection(), metadata=metadata, src=5, dst=["a"], proto_dns={"QR": "yes"}))
    assert (found.severity, found.text_of("Category")) == (None, "")
    own = read_finding(
        msgpack.packb({"timestamp": 5, "eventName": "x", "args": [{"name": "dst", "value": 7}, {"name": "dst_port"}]})
    )
    assert own.cause.server == ("", 0)


def test_a_signal_is_no_finding() -> None:
    """The signal at the end of a source is skipped."""
    assert read_finding(msgpack.packb({"signal": "source_complete"})) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"timestamp": 1}),
        msgpack.packb({"timestamp": -1, "eventName": "x"}),
        msgpack.packb({"timestamp": 1 << 63, "eventName": "x"}),
        msgpack.packb({"timestamp": 1, "eventName": 5}),
        msgpack.packb({"timestamp": 1, "eventName": "x", "args": 5}),
        msgpack.packb({"timestamp": 1, "eventName": "x", "since": -1}),
    ],
)
def test_garbage_is_refused(body: bytes) -> None:
    """Bytes that are no finding raise an error that names the reason."""
    with pytest.raises(BadMessage):
        read_finding(body)


def test_the_records_of_a_long_message_are_left_out() -> None:
    """A stranger cannot make a finding long: the records of a long one are left out, and the rest stays."""
    cause = cause_of(dns_answer())
    short = read_finding(body_of(cause, text="x" * 1000))
    long = read_finding(body_of(cause, text="x" * LONG))
    assert len(short.cause.message.answers) == 2
    assert len(long.cause.message.answers) == 0
    assert (long.cause.server, long.cause.question.name) == (("192.0.2.53", 53), "shop.example")
    assert (long.title, len(long.data["text"])) == (METADATA.name, LONG)


def test_a_second_report_is_known_by_its_id() -> None:
    """An id is new once; findings without an id are always new."""
    seen = SeenIds()
    assert [seen.add(each) for each in ("a", "b", "a", "", "")] == [True, True, False, True, True]


def test_the_ids_are_bounded() -> None:
    """Beyond the bound the oldest id is forgotten, and is new again."""
    seen = SeenIds()
    for number in range(MOST + 1):
        seen.add(str(number))
    assert not seen.add("1")
    assert seen.add("0")


def deep(levels: int) -> Any:
    """Return nested maps."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("encode", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    "value",
    [
        b"\xff\x00",
        float("nan"),
        float("inf"),
        {1: 2},
        {b"k": 1},
        msgpack.Timestamp(1, 2),
        msgpack.ExtType(5, b"x"),
        1 << 63,
    ],
    ids=repr,
)
def test_a_value_that_json_lacks_makes_no_bad_line(value: Any, encode: Encode) -> None:
    """A sender can put values into a finding that JSON lacks: it is refused, or each line is JSON."""
    body = msgpack.packb({"timestamp": 1, "eventName": "x", "args": [{"name": "data", "value": value}]})
    with suppress(BadMessage):
        found = read_finding(body)
        line = encode(found)
        assert encode is FORMATS["text"] or strict(line)


@pytest.mark.parametrize("levels", [50, 300, 500, 900, 20_000])
def test_a_deep_finding_ends_no_worker(levels: int) -> None:
    """A finding with nested maps is refused, written or counted, and ends nothing."""
    body = msgpack.packb({"timestamp": 1, "eventName": "x", "args": []})[:-1] + b"\x91\x82\xa4name\xa1d\xa5value"
    body += b"\x81\xa1a" * levels + b"\x01"
    for encode in FORMATS.values():
        made = Output("test", encode, Script())
        with suppress(BadMessage):
            made.add(read_finding(body))
            assert made.waiting + made.counters["unformatted"] == 1


def strict(line: bytes) -> bool:
    """Return true if a line is JSON in the sense of RFC 8259."""
    msgspec.json.decode(line)
    return True
