"""A DNS message in tracee's shape, key by key.

Tests of dnstrail.tracee.codes, dnstrail.tracee.proto_dns.
"""

from __future__ import annotations

import json
from typing import Any

import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.costly import COSTLY, NSEC, calls_in
from builders.dns_builders import A, asked, by_hand, record, response_to, wire
from builders.hostile import ONE, QUESTION, P
from dnstrail.dns.whole_message import MAX_RECORDS, MAX_TEXT
from dnstrail.tracee.proto_dns import MAX_READS, _Reading, proto_dns, text

NO_SOA = {"MName": "", "RName": "", "serial": 0, "refresh": 0, "retry": 0, "expire": 0, "minimum": 0}
EMPTY = {
    "IP": "",
    "NS": "",
    "CNAME": "",
    "PTR": "",
    "TXTs": [],
    "SOA": NO_SOA,
    "SRV": {"priority": 0, "weight": 0, "port": 0, "name": ""},
    "MX": {"preference": 0, "name": ""},
    "OPT": [],
    "URI": {"priority": 0, "weight": 0, "target": ""},
    "TXT": "",
}


def shaped(payload: bytes) -> dict[str, Any]:
    """Return the shape of a message that is whole."""
    message, reason = proto_dns(payload)
    assert message is not None
    assert reason == ""
    return message


def answer_of(payload: bytes) -> dict[str, Any]:
    """Return the shape of the one answer of a message that is whole."""
    [answer] = shaped(payload)["answers"]
    return answer


def test_a_message_has_all_keys_of_tracee_in_its_order() -> None:
    """A response has tracee's header fields, counts and sections; codes are strings, flags are numbers."""
    expected = {
        "ID": 1,
        "QR": 1,
        "opCode": "query",
        "AA": 1,
        "TC": 0,
        "RD": 1,
        "RA": 1,
        "Z": 0,
        "responseCode": "no error",
        "QDCount": 1,
        "ANCount": 1,
        "NSCount": 0,
        "ARCount": 0,
        "questions": [{"name": "a.com", "type": "A", "class": "IN"}],
        "answers": [{"name": "a.com", "type": "A", "class": "IN", "TTL": 300, **EMPTY, "IP": "1.1.1.1"}],
        "authorities": [],
        "additionals": [],
    }
    message = shaped(response_to("a.com", "a.com A 1.1.1.1", flags=0x0400))
    assert message == expected
    assert list(message) == list(expected)
    assert list(message["answers"][0]) == list(expected["answers"][0])


@pytest.mark.parametrize(
    ("flags", "opcode", "rcode"),
    [
        (0x8000, "query", "no error"),
        (0x8001, "query", "format error"),
        (0x8002, "query", "server failure "),
        (0x8003, "query", "non-existent domain"),
        (0x8004, "query", "not implemented"),
        (0x8005, "query", "query refused"),
        (0x800F, "query", "unknown"),
        (0x8800, "inverse query", "no error"),
        (0x9000, "status", "no error"),
        (0x9800, "unknown", "no error"),
        (0xA000, "notify", "no error"),
        (0xA800, "update", "no error"),
    ],
)
def test_codes_are_strings_of_gopacket_in_lower_case(flags: int, opcode: str, rcode: str) -> None:
    """Opcode and response code have gopacket's strings in lower case, the blank behind "server failure" included."""
    message = shaped(by_hand(QUESTION, flags=flags))
    assert (message["opCode"], message["responseCode"]) == (opcode, rcode)


def test_an_opt_record_is_an_additional_record() -> None:
    """An OPT record has its options, the class "Unknown" and its flags as the TTL; it extends the response code."""
    query = dns.message.make_query("a.com", "A", use_edns=0, payload=4096)
    query.use_edns(0, ednsflags=0x0100_8000, payload=4096, options=[dns.edns.GenericOption(10, b"abcd")])
    [record_] = shaped(query.to_wire())["additionals"]
    assert record_ == {
        "name": "",
        "type": "OPT",
        "class": "Unknown",
        "TTL": 0x0100_8000,
        **EMPTY,
        "OPT": [{"code": "Cookie", "data": "abcd"}],
    }
    assert shaped(query.to_wire())["responseCode"] == "bad opt version"


RECORDS = {
    "a.com A 1.1.1.1": ("A", {"IP": "1.1.1.1"}),
    "a.com AAAA 2001:db8::1": ("AAAA", {"IP": "2001:db8::1"}),
    "a.com AAAA ::ffff:1.2.3.4": ("AAAA", {"IP": "1.2.3.4"}),
    "a.com CNAME b.com": ("CNAME", {"CNAME": "b.com"}),
    "a.com NS ns.a.com": ("NS", {"NS": "ns.a.com"}),
    "a.com PTR b.com": ("PTR", {"PTR": "b.com"}),
    "a.com MX 10 mx.a.com": ("MX", {"MX": {"preference": 10, "name": "mx.a.com"}}),
    "a.com SRV 1 2 443 s.a.com": ("SRV", {"SRV": {"priority": 1, "weight": 2, "port": 443, "name": "s.a.com"}}),
    'a.com TXT "two words" x': ("TXT", {"TXTs": ["two words", "x"], "TXT": "\x09two words\x01x"}),
    r'a.com TXT "\255\000"': ("TXT", {"TXTs": ["\ufffd\x00"], "TXT": "\x02\ufffd\x00"}),
    "a.com HINFO cpu os": ("HINFO", {"TXTs": ["cpu", "os"], "TXT": "\x03cpu\x02os"}),
    'a.com URI 10 1 "ftp://a.com/"': ("URI", {"URI": {"priority": 10, "weight": 1, "target": "ftp://a.com/"}}),
    "a.com SOA ns.a.com me.a.com 5 1 2 3 4": (
        "SOA",
        {
            "SOA": {
                "MName": "ns.a.com",
                "RName": "me.a.com",
                "serial": 5,
                "refresh": 1,
                "retry": 2,
                "expire": 3,
                "minimum": 4,
            }
        },
    ),
    "a.com HTTPS 1 . ipv4hint=1.1.1.1": ("HTTPS", {"rdata": '1 . ipv4hint="1.1.1.1"'}),
    "a.com CAA 0 issue ca.org": ("Unknown", {"rdata": '0 issue "ca.org"', "typeCode": 257}),
    r"a.com MX 10 x\032y.com": ("MX", {"MX": {"preference": 10, "name": "x y.com"}}),
    "a.com MX 10 .": ("MX", {"MX": {"preference": 10, "name": ""}}),
}


@pytest.mark.parametrize(("line", "expected"), RECORDS.items(), ids=RECORDS)
def test_each_record_has_all_keys_and_fills_the_field_of_its_type(line: str, expected: tuple[str, Any]) -> None:
    """A record has every key of tracee; a type that tracee has no field for has its presentation form besides."""
    name, fields = expected
    answer = answer_of(response_to("a.com ANY", line, ttl=77))
    assert answer == {"name": "a.com", "type": name, "class": "IN", "TTL": 77, **EMPTY, **fields}


@pytest.mark.parametrize("kind", [1, 28, 33])
def test_a_record_of_another_class_has_its_bytes(kind: int) -> None:
    """A type that is defined for class IN alone has the unknown form (RFC 3597) in another class."""
    answer = answer_of(by_hand(QUESTION, record(P, kind, b"\xab", klass=254)))
    assert (answer["class"], answer["IP"], answer["rdata"]) == ("Unknown", "", r"\# 1 ab")


@pytest.mark.parametrize(
    ("kind", "rdata"),
    [
        (1, b"\x01\x02\x03\x04\x05"),
        (28, b""),
        (5, b"\x05ab"),
        (5, b"\x01a\0rest"),
        (6, b"\0\0\0"),
        (15, b"\0"),
        (16, b"\x05ab"),
        (33, b"\0\0\0\0\0"),
        (41, b"\0\x0a\0\x05ab"),
        (256, b"\0"),
    ],
)
def test_a_damaged_rdata_has_its_bytes(kind: int, rdata: bytes) -> None:
    """A record whose RDATA is damaged has zero values and the unknown form; the records around it are reported."""
    whole = record(P, A, ONE)
    message = shaped(by_hand(QUESTION, whole, record(P, kind, rdata), whole))
    before, damaged, after = message["answers"]
    assert before["IP"] == after["IP"] == "1.1.1.1"
    assert {key: damaged[key] for key in EMPTY} == EMPTY
    assert damaged["rdata"] == f"\\# {len(rdata)} {rdata.hex()}".rstrip()


@pytest.mark.parametrize(
    ("kind", "klass", "expected"),
    [
        (28, 1, {"type": "AAAA", "class": "IN"}),
        (65, 1, {"type": "HTTPS", "class": "IN"}),
        (255, 1, {"type": "Unknown", "class": "IN", "typeCode": 255}),
        (16, 3, {"type": "TXT", "class": "CH"}),
        (1, 255, {"type": "A", "class": "Any"}),
        (1, 0x8001, {"type": "A", "class": "Unknown"}),
    ],
)
def test_a_question_has_its_type_and_class_as_strings(kind: int, klass: int, expected: dict[str, Any]) -> None:
    """A question has name, type and class; a type that tracee has no string for has its number besides."""
    [question] = shaped(by_hand(asked(wire("q.example"), kind, klass)))["questions"]
    assert question == {"name": "q.example", **expected}


def test_names_keep_their_case_and_their_bytes() -> None:
    """A name has the case that it was sent in, and the root is empty, as in tracee."""
    assert shaped(response_to("A.Com"))["questions"][0]["name"] == "A.Com"
    assert shaped(response_to(". NS"))["questions"][0]["name"] == ""


def test_records_keep_their_order_and_ttls() -> None:
    """Records of one name stay apart, each with the TTL that it had."""
    lines = ["a.com A 1.1.1.1 ttl=1", "b.com A 2.2.2.2 ttl=2", "a.com A 1.1.1.2 ttl=3"]
    answers = shaped(response_to("a.com", *lines))["answers"]
    assert [(answer["name"], answer["TTL"], answer["IP"]) for answer in answers] == [
        ("a.com", 1, "1.1.1.1"),
        ("b.com", 2, "2.2.2.2"),
        ("a.com", 3, "1.1.1.2"),
    ]


def test_each_section_has_its_records() -> None:
    """Authorities and additionals have the shape of answers."""
    message = shaped(by_hand(QUESTION, *[record(P, A, ONE)] * 2, counts="1 1 1"))
    assert [len(message[name]) for name in ("answers", "authorities", "additionals")] == [1, 0, 1]
    assert message["answers"] == message["additionals"]


def test_a_message_that_is_cut_short_says_so() -> None:
    """A message that was cut has its whole records, the counts of its header, and the reason."""
    whole = by_hand(QUESTION, record(P, A, ONE), record(P, A, ONE))
    message, reason = proto_dns(whole[:-1])
    assert message is not None
    assert (message["ANCount"], [answer["IP"] for answer in message["answers"]]) == (2, ["1.1.1.1"])
    assert reason == f"the message is cut short or damaged after byte {len(whole) - 16} of {len(whole) - 1}"


def test_too_few_bytes_for_a_header_are_no_message() -> None:
    """Bytes that are too few for a header have no shape, and the reason."""
    assert proto_dns(bytes(5)) == (None, "5 bytes are too few for a DNS header, which has 12")


def test_a_message_of_too_many_records_is_bounded() -> None:
    """Of a message with many records the first are reported, with the reason; nothing is missing without a word."""
    message, reason = proto_dns(by_hand(QUESTION, *[record(P, A, ONE)] * MAX_RECORDS, flags=0x8180))
    assert message is not None
    assert (message["ANCount"], len(message["answers"])) == (MAX_RECORDS, MAX_RECORDS - 1)
    assert reason == f"{MAX_RECORDS + 1} records; only the first {MAX_RECORDS} are read"


@pytest.mark.parametrize("payload", COSTLY.values(), ids=COSTLY)
def test_no_message_costs_more_than_the_bound(payload: bytes) -> None:
    """The work for one message and the size of its shape are bounded, whatever its names and records are."""
    proto_dns(payload)  # the modules of its types are loaded
    assert calls_in(lambda: proto_dns(payload)) < 500_000
    assert len(json.dumps(proto_dns(payload))) < 1_000_000


def test_a_message_of_too_many_reads_says_so() -> None:
    """Of a message whose names take too many reads the first records are reported, with the reason."""
    labels = 120
    message, reason = proto_dns(by_hand(QUESTION, *[record(b"\x01a" * labels + b"\0", A, ONE)] * 250))
    assert message is not None
    assert (len(message["answers"]), message["ANCount"]) == (MAX_READS // (labels + 1), 250)
    assert reason.startswith(f"the message takes more than {MAX_READS} reads; it is read up to byte ")


labels_ = st.integers(1, 5).map(lambda size: bytes([size]) + b"aB\xff.c"[:size])
pointers = st.integers(0, 63).map(lambda at: bytes([0xC0, at]))
odd_names = st.lists(st.one_of(labels_, pointers, st.just(b"\0"), st.sampled_from([b"\x40", b"\x3f" + b"x" * 63])))


@given(odd_names.map(b"".join))
def test_names_are_those_of_dnspython(wire: bytes) -> None:
    """Any name at any offset, each read once, is the one that dnspython reads, also after others were read."""
    reading = _Reading(wire)
    for at in (*range(len(wire)), *range(len(wire))):
        try:
            name, length = dns.name.from_wire(wire, at)
        except dns.exception.DNSException:
            with pytest.raises(dns.exception.DNSException):
                reading.name(at)
        else:
            assert reading.name(at) == (text(b".".join(name.labels[:-1])), at + length)


def test_records_beyond_the_budget_have_the_generic_form() -> None:
    """Records without a field of their own have their presentation form while the budget of the message lasts."""
    rdata = b"\x00\x00\x20" + b"\xff" * 32
    message = shaped(by_hand(QUESTION, *[record(P, NSEC, rdata)] * 200))
    forms = [answer["rdata"] for answer in message["answers"]]
    fit = MAX_TEXT // len(rdata)
    assert all(form.startswith(". ") for form in forms[:fit])
    assert forms[fit:] == [f"\\# {len(rdata)} {rdata.hex()}"] * (200 - fit)


def header(flags: int, tail: bytes) -> bytes:
    """Return a message with any flags and four records promised in each section."""
    return b"\x00\x01" + flags.to_bytes(2) + b"\x00\x01\x00\x02\x00\x01\x00\x02" + tail


kinds = st.one_of(st.integers(1, 300), st.sampled_from([12, 15, 16, 33, 41, 46, 50, 64, 65, 249, 250, 257, 65535]))
odd_records = st.builds(
    lambda kind, data, klass: record(P, kind, data, klass=klass),
    kinds,
    st.binary(max_size=30),
    st.sampled_from([1, 1, 1, 3, 254, 255]),
)
payloads = st.one_of(
    st.binary(max_size=80),
    st.builds(header, st.integers(0, 65535), st.binary(max_size=60)),
    st.builds(
        header, st.integers(0, 65535), st.lists(odd_records, max_size=5).map(lambda all_: QUESTION + b"".join(all_))
    ),
    st.lists(odd_records, max_size=5).map(lambda all_: by_hand(QUESTION, *all_)),
)


@given(payloads)
def test_any_payload_can_be_written_as_json(payload: bytes) -> None:
    """The shape of any payload is JSON, and is read back as it was."""
    message, _ = proto_dns(payload)
    assert json.loads(json.dumps(message)) == message
    assert msgspec.json.decode(msgspec.json.encode(message)) == message


@given(payloads)
def test_names_and_types_agree_with_dnspython(payload: bytes) -> None:
    """The records that dnspython reads from a message without damage are the records of the shape."""
    message, reason = proto_dns(payload)
    try:
        parsed = dns.message.from_wire(payload, one_rr_per_rrset=True)
    except Exception:  # noqa: BLE001 - dnspython refuses what it cannot read in many ways
        return
    assert message is not None
    assert reason == ""
    assert message["ID"] == parsed.id
    assert len(message["questions"]) == len(parsed.question)


def test_odd_payloads_are_read_as_messages_at_all() -> None:
    """The odd records of these tests are whole records: they are reported by their bytes."""
    assert answer_of(by_hand(QUESTION, record(P, 65280, b"\xff")))["rdata"] == r"\# 1 ff"
