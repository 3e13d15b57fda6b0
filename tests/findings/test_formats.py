"""Each format has the fields of its published schema, whatever names a finding contains.

Tests of dnstrail_findings.cause.
"""

from __future__ import annotations

import json
import re

import dns.message
import dns.name
import dns.rrset
import msgpack
import msgspec
import pytest

from builders.findings import CURL, METADATA, STAMP, body_of, cause_of, connection, dns_answer, finding_of, transaction
from builders.schemas import check_ecs, check_ocsf, schema
from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT, Event
from dnstrail_findings.finding import ReceivedFinding, read_finding
from dnstrail_findings.formats import ecs, ocsf, text, tracee
from dnstrail_findings.formats.ecs import MOST_ANSWERS, TACTICS
from dnstrail_findings.targets import FORMATS
from dnstrail_findings.writers.syslog import syslog_message

HOSTILE = b'a"b\\c\n<14>1\r\0\x1b[31m \xff\xc3\xa9=x,y'
TRAIL = {"key": "198.51.100.66", "path": "a A 198.51.100.66", "dns_root": "root.example", "rivals": ["b.example"]}
SYSLOG = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>\S+) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) "
    rb"(?P<id>[!-~]{1,32}) - (?P<line>[ -~]*)"
)


def hostile() -> ReceivedFinding:
    """Return a finding whose names, paths and data are hostile bytes."""
    name = dns.name.Name((HOSTILE, b"example", b""))
    message = dns.message.make_response(dns.message.make_query(name, "A"))
    message.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", name.to_text()))
    words = HOSTILE.decode("utf-8", "replace")
    labels = ((words, words),)
    process = Process(1, words, f"/{words}", 2, 3, words, container_name=words, container_image=words, unit=words)
    process = msgspec.structs.replace(process, container_labels=labels)
    found = finding_of(cause_of(message.to_wire(), process, words), words, data=words, names=[words], inner={words: 1})
    found.explained.update(trail={**TRAIL, "path": words}, next=[words])
    return found


def explained() -> ReceivedFinding:
    found = finding_of()
    found.explained.update(trail=TRAIL, next=["dnstrail trail 198.51.100.66"])
    return found


def bare() -> ReceivedFinding:
    """Return the least that is a finding."""
    found = read_finding(msgpack.packb({"timestamp": STAMP, "eventName": "x"}))
    assert found is not None
    return found


FINDINGS = {
    "response": explained,
    "connection": lambda: finding_of(connection()),
    "exit": lambda: finding_of(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=CURL), ("s", 1), "web-1")),
    "transaction": lambda: finding_of(transaction()),
    "query": lambda: finding_of(cause_of(dns.message.make_query("a.example", "AAAA").to_wire())),
    "bare": bare,
    "hostile": hostile,
}


@pytest.fixture(params=FINDINGS)
def finding(request) -> ReceivedFinding:
    return FINDINGS[request.param]()


def test_ecs_has_fields_of_its_schema(finding) -> None:
    """An alert has only fields of ECS, of their types, and its own below `dnstrail`."""
    document = json.loads(ecs.encode(finding))
    check_ecs(document)
    assert document["ecs"]["version"] == ecs.VERSION
    assert document["event"]["kind"] == "alert"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["@timestamp"])


def test_ocsf_has_attributes_of_its_schema(finding) -> None:
    """A detection finding has only attributes of OCSF 1.8, of their types, and all that are required."""
    document = json.loads(ocsf.encode(finding))
    check_ocsf(document, schema("ocsf-1.8.0")["classes"]["detection_finding"], "finding")
    assert (document["class_uid"], document["type_uid"], document["metadata"]["version"]) == (2004, 200401, "1.8.0")


def test_ecs_states_who_where_and_why() -> None:
    """An alert names host, process, container, ends, question, rule, technique and trail."""
    document = json.loads(ecs.encode(explained()))
    assert document["host"]["name"] == "web-1"
    assert document["process"] == {
        "pid": 4711,
        "name": "curl",
        "executable": "/usr/bin/curl",
        "parent": {"pid": 4700},
    }
    assert document["user"] == {"id": "1000"}
    labels = {"app_kubernetes_io/name": "shop"}
    assert document["container"] == {"id": "c0ffee", "name": "shop", "image": {"name": "shop:1"}, "labels": labels}
    assert document["source"] == {"address": "192.0.2.100", "ip": "192.0.2.100", "port": 40008}
    assert document["dns"]["question"]["name"] == "shop.example"
    assert document["dns"]["resolved_ip"] == ["198.51.100.66"]
    assert document["event"]["id"] == "f1"
    assert (document["event"]["severity"], document["event"]["risk_score"]) == (3, 73)
    assert document["rule"]["id"] == "DT-9"
    assert document["threat"]["tactic"] == {"id": ["TA0011"], "name": ["Command and Control"]}
    assert document["threat"]["technique"]["id"] == ["T1071"]
    assert document["threat"]["technique"]["subtechnique"]["id"] == ["T1071.004"]
    assert document["related"]["hosts"] == ["shop.example", "relay.example", "root.example"]
    assert document["dnstrail"]["trail"]["rivals"] == ["b.example"]
    assert document["dnstrail"]["coverage"] == 0.5
    assert (document["dnstrail"]["unit"], document["dnstrail"]["slice"]) == ("shop.service", "shop.slice")
    assert document["dnstrail"]["since"] == "2026-11-01T12:00:04.012345Z"
    assert document["dnstrail"]["next"] == ["dnstrail trail 198.51.100.66"]


def test_ocsf_states_who_where_and_why() -> None:
    """A detection finding names device, process, container, ends, query, analytic, attack and trail."""
    document = json.loads(ocsf.encode(explained()))
    [evidence] = document["evidences"]
    assert document["device"]["hostname"] == "web-1"
    assert document["actor"]["process"]["pid"] == evidence["process"]["pid"] == 4711
    assert evidence["process"]["file"] == {"name": "curl", "path": "/usr/bin/curl", "type_id": 1}
    assert evidence["process"]["parent_process"] == {"pid": 4700}
    assert evidence["container"]["name"] == "shop"
    assert evidence["container"]["labels"] == ["app.kubernetes.io/name=shop"]
    assert evidence["query"]["hostname"] == "shop.example"
    assert evidence["src_endpoint"] == {"ip": "192.0.2.100", "port": 40008}
    assert document["finding_info"]["uid"] == "f1"
    assert document["finding_info"]["analytic"]["uid"] == "DT-9"
    [attack] = document["finding_info"]["attacks"]
    assert (attack["tactic"]["uid"], attack["technique"]["uid"]) == ("TA0011", "T1071")
    assert attack["sub_technique"]["uid"] == "T1071.004"
    assert document["severity_id"] == 4
    assert document["time"] == STAMP // 10**6
    assert (document["unmapped"]["unit"], document["unmapped"]["slice"]) == ("shop.service", "shop.slice")
    assert document["unmapped"]["trail"]["rivals"] == ["b.example"]


def test_a_connection_has_its_transport_and_name() -> None:
    """A connection names its protocol, its likeliest name and its flow in both schemas."""
    found = finding_of(connection())
    document, [evidence] = json.loads(ecs.encode(found)), json.loads(ocsf.encode(found))["evidences"]
    assert document["network"] == {"transport": "tcp", "type": "ipv4", "community_id": "1:abc="}
    assert document["destination"]["domain"] == evidence["dst_endpoint"]["hostname"] == "shop.example"
    assert evidence["connection_info"]["protocol_num"] == 6
    assert evidence["connection_info"]["community_uid"] == "1:abc="


@pytest.mark.parametrize(
    "name",
    ["net_tcp_connect", "net_tcp_connect_result", "net_tcp_close", "net_udp_connect", "net_udp_close"],
)
def test_every_event_of_a_connection_has_its_transport(name) -> None:
    """Attempt, outcome and end of a connection name their transport in both schemas."""
    found, transport = finding_of(connection(name=name)), name[4:7]
    [evidence] = json.loads(ocsf.encode(found))["evidences"]
    assert json.loads(ecs.encode(found))["network"]["transport"] == transport
    assert evidence["connection_info"]["protocol_name"] == transport


def test_tracee_keeps_the_map() -> None:
    """The shape of tracee is the map that arrived, with trail and next."""
    found = explained()
    assert json.loads(tracee(found)) == {**found.map, "trail": TRAIL, "next": found.explained["next"]}


def test_text_is_a_line_for_people() -> None:
    """A line has time, severity, event, and the values that are known."""
    line = text.encode(explained()).decode()
    assert line.startswith(
        "2026-11-01T12:00:05.012345Z HIGH RELAY_RESOLVED id=f1 host=web-1 process=curl[4711] parent=4700 "
        "container=shop unit=shop.service client=192.0.2.100:40008 server=192.0.2.53:53 question=shop.example "
        "relay=relay.example"
    )
    assert 'trail="a A 198.51.100.66" rivals=b.example coverage=0.50' in line


def test_a_line_of_text_is_bounded() -> None:
    """Long values are cut, and so is a line of many values."""
    line = text.encode(finding_of(long="x" * 5000))
    assert b"x" * text.LONGEST_VALUE + b"..." in line
    many = text.encode(finding_of(**{f"value{number}": "x" * 200 for number in range(50)}))
    assert len(many) == text.LONGEST


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_names_stay_within_their_value(name: str) -> None:
    """A name with control bytes, newlines and quotes makes neither a line nor a field of its own in any format."""
    line = FORMATS[name](hostile())
    assert re.fullmatch(rb"[ -~]+", line), line
    if name == "text":
        unquoted = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
        assert b"<14>" not in unquoted
        assert b"x,y" not in unquoted
    else:
        assert isinstance(json.loads(line), dict)


def test_a_name_of_the_wire_is_escaped_as_in_dns() -> None:
    """ECS requires decimal escapes of bytes that are not printable, and a backslash before backslashes and quotes."""
    name = json.loads(ecs.encode(hostile()))["dns"]["question"]["name"]
    assert name.startswith(r"a\"b\\c\010<14>1\013\000\027[31m\032")


@pytest.mark.parametrize("name", [r"caf\195\169.example", r"x\200.example", r"www\.bank\.example.evil.example"])
def test_a_name_of_a_transaction_stays_as_it_is(name: str) -> None:
    """The names of a transaction are escaped already: ECS, OCSF and the commands have the name that was asked."""
    found = finding_of(transaction(name, relations=[(name, "CNAME", name, 60)]))
    ecs_document, ocsf_document = (json.loads(encode(found)) for encode in (ecs.encode, ocsf.encode))
    answer = ecs_document["dns"]["answers"][0]
    assert [ecs_document["dns"]["question"]["name"], answer["name"], answer["data"]] == [name] * 3
    assert ecs_document["related"]["hosts"] == [name]
    assert ocsf_document["evidences"][0]["query"]["hostname"] == name


@pytest.mark.parametrize("name", FORMATS)
def test_syslog_cannot_be_injected(name: str) -> None:
    """A hostile finding is one message of RFC 5424, with its own priority."""
    found = SYSLOG.fullmatch(syslog_message(hostile().source, FORMATS[name](hostile())))
    assert found is not None
    assert (found["pri"], found["app"]) == (b"83", b"dnstrail")
    assert b" " not in found["host"]


def test_an_empty_host_is_nil_in_syslog() -> None:
    """A header has "-" for a value that is unknown."""
    found = SYSLOG.fullmatch(syslog_message(bare().source, b"x"))
    assert (found["host"], found["id"], found["pri"]) == (b"-", b"x", b"85")


def test_the_answers_of_one_finding_are_bounded() -> None:
    """ECS has the first answers of a long message."""
    message = dns.message.make_response(dns.message.make_query("a.example", "A"))
    addresses = [f"10.0.{number // 200}.{number % 200}" for number in range(2 * MOST_ANSWERS)]
    message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "A", *addresses))
    document = json.loads(ecs.encode(finding_of(cause_of(message.to_wire()))))
    assert len(document["dns"]["answers"]) == MOST_ANSWERS


def test_every_tactic_has_its_id() -> None:
    """The category of a signature names a tactic in tracee's spelling or in MITRE's."""
    for word in ("defense-evasion", "Defense Evasion"):
        metadata = type(METADATA)("X", "1", "x", "X", properties={"Category": word})
        found = read_finding(body_of(metadata=metadata))
        assert json.loads(ecs.encode(found))["threat"]["tactic"]["id"] == [TACTICS["Defense Evasion"]]
    assert all(re.fullmatch(r"TA00\d\d", number) for number in TACTICS.values())


def test_the_cause_of_a_finding_may_be_a_finding() -> None:
    """Data of a finding that led to a finding are no addresses."""
    cause = Event("FIRST", Captured(STAMP), args={"src": "not an address", "dst": 5, "dst_dns": [1, "a"]})
    document = json.loads(ecs.encode(finding_of(cause)))
    assert "source" not in document
    assert document["related"] == {"hosts": ["a"]}
    assert dns_answer()
