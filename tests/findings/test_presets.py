"""Webhooks for Slack, Elastic, Splunk, Loki and OTLP: servers that check what these receivers accept."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse as ParseJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from builders.findings import cause_of, dns_answer, finding_of
from dnstrail.errors import SettingsError
from dnstrail_findings.finding import LineSource, ReceivedFinding
from dnstrail_findings.output import Output, RefusedError
from dnstrail_findings.presets import PRESETS
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.writers.webhook import MOST_ANSWER, Webhook
from live.webhook_server import OK, read_request, serving

EVIL = "<!channel> & *bold* ```\n</x>"
NOON = 1_793_534_405.012345  # the time of each finding, in seconds
BULK_OK = {"took": 1, "errors": False}
Check = Callable[[str, dict[str, str], bytes], None]


def findings(count: int = 2) -> list[ReceivedFinding]:
    return [finding_of(cause_of(dns_answer()), f"f{number}", data=EVIL) for number in range(count)]


def answered(status: int, fields: dict | None = None) -> bytes:
    body = b"" if fields is None else json.dumps(fields).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def sent(
    preset: str, some: list[ReceivedFinding], answer: bytes = OK, token: Path | None = None
) -> tuple[Output, list[bytes]]:
    """Send findings by an output with a preset to a server on this host; return the output and the requests."""
    with serving(answer) as server:
        option = "" if token is None else f",token={token}"
        [output] = make_outputs([parse_target(f"webhook:http://127.0.0.1:{server.port}/in,preset={preset}{option}")])
        for one in some:  # they wait for the thread, and make the fewest batches
            output.add(one)
        output.start()
        output.close()
    assert output.error is None
    return output, server.requests


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return the target, the header fields and the body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    return first.split()[1], {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}, body


def is_slack(target: str, headers: dict[str, str], body: bytes) -> int:
    """Check a message as incoming webhooks do: JSON with a text of at most 40,000 characters; return its lines."""
    assert (target, headers["content-type"]) == ("/in/services/T/B/X", "application/json")
    assert "authorization" not in headers
    message = json.loads(body)
    assert set(message) == {"text", "mrkdwn", "unfurl_links", "unfurl_media"}
    assert message["mrkdwn"] is False
    assert 0 < len(message["text"]) <= 40_000
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", message["text"]), "no mention, no link"
    assert "&lt;!channel&gt;" in message["text"]
    return len(message["text"].split("\n"))


def is_elastic(target: str, headers: dict[str, str], body: bytes) -> int:
    """Check a body as `_bulk` of a data stream does: pairs of an action `create` and a document with a time."""
    assert target == "/in?filter_path=errors,items.*.status"
    assert headers["content-type"] == "application/x-ndjson"
    assert body.endswith(b"\n")
    lines = [json.loads(line) for line in body.splitlines()]
    assert [*lines[0]] == ["create"]
    assert lines[0]["create"]["_id"] == lines[1]["event"]["id"] == "f0"
    assert all([*action] == ["create"] and "@timestamp" in document for action, document in _pairs(lines))
    return len(lines) // 2


def _pairs(lines: list[dict]) -> list[tuple[dict, dict]]:
    return list(zip(lines[::2], lines[1::2], strict=True))


def is_splunk(_target: str, headers: dict[str, str], body: bytes) -> int:
    """Check a body as the HTTP Event Collector does: objects one after the other, each with an event."""
    assert headers["authorization"] == "Splunk 0123"
    decoder, text, events = json.JSONDecoder(), body.decode().strip(), []
    while text:
        event, end = decoder.raw_decode(text)
        events.append(event)
        text = text[end:].lstrip()
    assert all(set(one) <= {"time", "host", "source", "sourcetype", "event"} for one in events)
    assert events[0]["time"] == pytest.approx(NOON, abs=1e-6)
    assert events[0]["event"]["findingId"] == "f0"
    return len(events)


def is_loki(_target: str, headers: dict[str, str], body: bytes) -> int:
    """Check a push as Loki does: streams with labels, and entries of a time in nanoseconds and a line, both texts."""
    assert headers["content-type"] == "application/json"
    [*streams] = json.loads(body)["streams"]
    for one in streams:
        assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) and value for name, value in one["stream"].items())
        [[moment, line]] = one["values"]
        assert int(moment) // 1000 == round(NOON * 1e6)
        assert json.loads(line)["findingId"].startswith("f")
    return len(streams)


def is_otlp(_target: str, headers: dict[str, str], body: bytes) -> int:
    """Check a request as a receiver of OTLP/HTTP does: by the definitions of OpenTelemetry."""
    assert headers["content-type"] == "application/json"
    request = ParseJson(body, ExportLogsServiceRequest())
    [resource] = request.resource_logs
    assert [(one.key, one.value.string_value) for one in resource.resource.attributes] == [("service.name", "dnstrail")]
    [scope] = resource.scope_logs
    for one in scope.log_records:
        assert one.time_unix_nano // 1000 == round(NOON * 1e6)
        assert (one.severity_number, one.severity_text, one.event_name) == (17, "ERROR", "RELAY_RESOLVED")
        finding = json.loads(one.body.string_value)
        assert {each.key: each.value.string_value for each in one.attributes} == {
            "host.name": finding["hostName"],
            "id": finding["findingId"],
        }
    return len(scope.log_records)


RECEIVERS = {
    "slack": (is_slack, answered(200)),
    "elastic": (is_elastic, answered(200, BULK_OK)),
    "splunk": (is_splunk, answered(200, {"text": "Success", "code": 0})),
    "loki": (is_loki, answered(204)),
    "otlp": (is_otlp, answered(200, {"partialSuccess": {}})),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_receiver_accepts_what_its_preset_sends(preset, tmp_path):
    """Every finding reaches the receiver once, in the form that it accepts; names of strangers stay text."""
    is_accepted, answer = RECEIVERS[preset]
    token = tmp_path / "token"
    token.write_text("/services/T/B/X\n" if preset == "slack" else "Splunk 0123\n")
    output, requests = sent(preset, findings(40), answer, token)
    assert sum(is_accepted(*parts(request)) for request in requests) == 40
    assert dict(output.counters) == {"written": 40, "unsent": 0}


def test_the_message_for_slack_is_bounded():
    """Long findings are divided among messages: none is longer than Slack takes."""
    some = [finding_of(cause_of(dns_answer()), f"f{number}", data="<" * 5000 + EVIL, more=EVIL) for number in range(60)]
    _, requests = sent("slack", some, answered(200))
    assert {parts(request)[0] for request in requests} == {"/in"}
    messages = [json.loads(parts(request)[2])["text"] for request in requests]
    assert max(map(len, messages)) <= 40_000
    assert sum(len(message.split("\n")) for message in messages) == 60


def statuses(*values: int) -> bytes:
    return answered(200, {"errors": True, "items": [{"create": {"status": value}} for value in values]})


def write(answer) -> None:
    with serving(answer) as server:
        Webhook(server.url, preset=PRESETS["elastic"]).write([b'{"create": {}}\t{}'] * 3)


def test_a_document_that_elastic_refuses_is_counted():
    """A request that is answered with 200 may contain refused documents: these alone are lost, and counted."""
    output, _ = sent("elastic", findings(3), statuses(201, 400, 409))
    assert (output.counters["written"], output.counters["refused"]) == (2, 1)


@pytest.mark.parametrize("rejected", ["2", 2])
def test_records_that_otlp_rejects_are_counted(rejected: str | int) -> None:
    """A request that is answered with 200 may contain rejected records, a number in JSON or a text: they are lost."""
    answer = {"partialSuccess": {"rejectedLogRecords": rejected, "errorMessage": "x"}}
    output, _ = sent("otlp", findings(3), answered(200, answer))
    assert (output.counters["written"], output.counters["refused"]) == (1, 2)


def test_documents_that_elastic_knows_are_delivered():
    """A document that was created by an earlier attempt is a conflict, and no loss."""
    write(statuses(409, 201, 409))


@pytest.mark.parametrize("status", [429, 503])
def test_documents_that_elastic_may_take_later_are_sent_again(status):
    """While a shard is busy or away, the batch waits."""
    with pytest.raises(OSError, match=f"1 of 3 documents: status {status}"):
        write(statuses(201, status, 201))


@pytest.mark.parametrize("body", [b"<html>a login page</html>", b"", b"x" * (2 * MOST_ANSWER)], ids=len)
def test_an_answer_that_is_none_of_bulk_is_a_failure(body):
    """A page of another server with status 200 does not count as delivery, and is read up to a bound."""

    def act(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body[: MOST_ANSWER + 1000])

    with pytest.raises(OSError, match="none of _bulk"):
        write(act)


def test_documents_without_acceptance_are_refused():
    """All documents refused: the batch is refused with the first reason."""
    with pytest.raises(RefusedError, match="3 of 3 documents: status 400"):
        write(statuses(400, 400, 400))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("preset=teams", "write one of slack, elastic, splunk, loki, otlp"),
        ("preset=slack,format=ecs", "format=ecs: write one of text"),
        ("preset=elastic,format=text", "format=text: write one of ecs"),
    ],
)
def test_a_preset_refuses_what_its_receiver_does_not_take(value, fault):
    """An unknown preset, and a format that its receiver does not take, are wrong usage."""
    with pytest.raises(SettingsError, match=fault):
        parse_target(f"webhook:https://a.example/,{value}")


@pytest.mark.parametrize("path", ["services/T", "/a b", "/a?x", "Bearer x", "/a#b", "//@x\x7f"])
def test_the_secret_of_slack_is_a_path(path, tmp_path):
    """A file whose first line is no path of a URL is refused before the worker starts, without its content."""
    (tmp_path / "token").write_text(path)
    with pytest.raises(SettingsError) as refused:
        parse_target(f"webhook:https://hooks.slack.com,preset=slack,token={tmp_path}/token")
    assert path not in str(refused.value)


@pytest.mark.parametrize("fraction", [700_000_000, 123_456_999, 999_999_999, 999])
def test_the_time_for_splunk_is_cut(fraction):
    """The time is cut to the microsecond, as all other formats cut it: `dnstrail log --since` with it has the entry."""
    source = LineSource("f0", 1_793_534_405 * 10**9 + fraction, "dns_transaction", "")
    shown = json.loads(PRESETS["splunk"].wrap(source, b"{}"), parse_float=Decimal)["time"]
    assert shown == Decimal(1_793_534_405) + Decimal(fraction // 1000) / 10**6


def test_text_for_splunk_and_loki_is_text():
    """With format=text the event and the entry are the line for people."""
    for preset in ("splunk", "loki"):
        [output] = make_outputs([parse_target(f"webhook:https://a.example/,preset={preset},format=text")])
        found = json.loads(output._encode(findings(1)[0]))
        line = found["event"] if preset == "splunk" else found["values"][0][1]
        assert line.startswith("2026-11-01T12:00:05.012345Z HIGH RELAY_RESOLVED id=f0")
