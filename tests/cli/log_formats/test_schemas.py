"""ECS and OCSF have the fields of their published schemas, whatever an entry contains.

Tests of dnstrail_cli.log_formats.ecs, dnstrail_cli.log_formats.ocsf, dnstrail_cli.log_formats.words.
"""

from __future__ import annotations

import json

import pytest

from builders.facts import OF_UNIT, fact_of
from builders.log_entries import connection, live
from builders.schemas import check_ecs, check_ocsf, schema
from dnstrail.captured import Process
from dnstrail.history.log.entries import LoggedQuestion
from dnstrail_cli.log_formats import ecs, ocsf

HOSTILE = 'a"b\\c\n<14>1\r\0\x1b[31m \xe9=x,y'
QUESTIONS = {
    "answered": fact_of(process=OF_UNIT),
    "unanswered": fact_of(relations=(), outcome=6, rcode=None),
    "nxdomain": fact_of(relations=(), outcome=2, rcode=3),
    "an unknown code": fact_of(relations=(), outcome=4, rcode=4000),
    "of a remote client": fact_of(process=None, hop=2),
    "hostile": fact_of(
        process=Process(
            1,
            HOSTILE,
            f"/{HOSTILE}",
            container_id=HOSTILE,
            container_name=HOSTILE,
            container_labels=((HOSTILE, HOSTILE),),
        ),
        name=HOSTILE,
    ),
}
CONNECTIONS = {
    "closed": {},
    "refused": {"stage": "result", "connected": False, "error": "ECONNREFUSED", "why": None},
    "failed": {"stage": "result", "connected": False, "error": "ETIMEDOUT", "why": None, "name": None},
}


@pytest.fixture(params=QUESTIONS)
def question(request) -> LoggedQuestion:
    return live(QUESTIONS[request.param])


def test_a_question_is_an_event_of_ecs(question):
    """A question has only fields of ECS, of their types, and its own below `dnstrail`."""
    document = json.loads(ecs.encode_question(question))
    check_ecs(document)
    assert (document["event"]["kind"], document["event"]["action"]) == ("event", "lookup_requested")


def test_a_question_is_dns_activity_of_ocsf(question):
    """A question has only attributes of OCSF 1.8, of their types, and all that are required."""
    document = json.loads(ocsf.encode_question(question))
    check_ocsf(document, schema("ocsf-1.8.0")["classes"]["dns_activity"], "question")
    assert document["class_uid"] == 4003


@pytest.mark.parametrize("name", CONNECTIONS)
def test_a_connection_fits_both_schemas(name):
    """The end and the failure of a connection have only fields of ECS, and of OCSF 1.8 all that are required."""
    entry = connection(**CONNECTIONS[name])
    check_ecs(json.loads(ecs.encode_connection(entry)))
    document = json.loads(ocsf.encode_connection(entry))
    check_ocsf(document, schema("ocsf-1.8.0")["classes"]["network_activity"], "connection")
    assert document["type_uid"] == {"closed": 400102, "refused": 400105, "failed": 400104}[name]


def test_a_question_without_a_flow_fits_both_schemas():
    """An answer of getaddrinfo without a packet has neither end, and fits both schemas."""
    fact = QUESTIONS["answered"]
    entry = live(type(fact)(fact.id, None, fact.host, fact.ended, fact.process, None, fact.values))
    check_ecs(json.loads(ecs.encode_question(entry)))
    check_ocsf(json.loads(ocsf.encode_question(entry)), schema("ocsf-1.8.0")["classes"]["dns_activity"], "question")
    assert entry.src is None


def test_ecs_states_who_asked_what():
    """A question names host, process, container, ends, outcome, question, answers and duration."""
    document = json.loads(ecs.encode_question(live(QUESTIONS["answered"])))
    assert document["dns"] == {
        "type": "answer",
        "op_code": "QUERY",
        "response_code": "NOERROR",
        "question": {"name": "a.example", "type": "A", "class": "IN"},
        "answers": [
            {"name": "a.example", "type": "CNAME", "class": "IN", "ttl": 60, "data": "b.example"},
            {"name": "b.example", "type": "A", "class": "IN", "ttl": 30, "data": "192.0.2.1"},
        ],
        "resolved_ip": ["192.0.2.1"],
    }
    assert document["process"] == {"pid": 7, "name": "curl", "executable": "/usr/bin/curl"}
    assert (document["event"]["outcome"], document["event"]["duration"]) == ("success", 20_000_000)
    assert document["source"] == {"address": "10.0.0.2", "ip": "10.0.0.2", "port": 40000}
    assert document["related"]["hosts"] == ["a.example", "b.example"]
    assert document["dnstrail"]["unit"] == "web.service"


def test_ocsf_states_who_asked_what():
    """A question names device, process, container, ends, query, answers, code and times."""
    document = json.loads(ocsf.encode_question(live(QUESTIONS["answered"])))
    assert document["query"] == {"hostname": "a.example", "type": "A", "class": "IN"}
    assert [answer["rdata"] for answer in document["answers"]] == ["b.example", "192.0.2.1"]
    assert (document["rcode"], document["duration"], document["type_uid"]) == ("NoError", 20, 400306)
    assert document["actor"]["process"]["container"]["name"] == "web"
    assert document["unmapped"]["unit"] == "web.service"
    assert document["connection_info"]["community_uid"].startswith("1:")


@pytest.mark.parametrize("encode", [ecs.encode_question, ocsf.encode_question])
def test_hostile_names_stay_within_their_value(encode):
    """A name with control bytes, newlines and quotes is a value of one line of printable ASCII."""
    line = encode(live(QUESTIONS["hostile"]))
    assert line.isascii()
    assert line.isprintable()


def test_a_connection_is_last_at_its_end_or_failure():
    """Of the stages of a connection its end is shown, and its result if it failed."""
    stages = [("opened", None), ("result", True), ("result", False), ("named", None), ("end", None)]
    found = [connection(stage=stage, connected=connected).is_last for stage, connected in stages]
    assert found == [False, False, True, False, True]


def test_both_schemas_state_labels():
    """The labels of a container are an object of ECS, without dots in its keys, and texts of OCSF."""
    entry = connection()
    assert json.loads(ecs.encode_connection(entry))["container"]["labels"] == {"app_kubernetes_io/name": "web"}
    process = json.loads(ocsf.encode_connection(entry))["actor"]["process"]
    assert process["container"]["labels"] == ["app.kubernetes.io/name=web"]
