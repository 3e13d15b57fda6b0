"""The presets of a webhook: how each receiver takes findings, and what its answer means (docs/use/outputs.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dnstrail.process.terminal import json_bytes
from dnstrail_findings.finding import LineSource
from dnstrail_findings.output import RefusedError

_MICROSECONDS = 1_000_000  # of a second
_MOST, _MOST_BYTES = 100, 1 << 20  # of a batch
_SLACK_BYTES = 30_000  # Slack takes 40,000 characters
_BETWEEN = b"\t"  # between action and document of a line: JSON contains no such byte
_ALL_WELL = re.compile(rb'"errors" ?: ?false')
_REJECTED = re.compile(rb'"rejectedLogRecords"\s*:\s*"?(\d{1,9})')
_OTLP_NOTICE = (10, "NOTICE")
_OTLP_SEVERITIES = ((9, "INFO"), _OTLP_NOTICE, (13, "WARNING"), (17, "ERROR"))  # as syslog's, mapped by OTLP
_OTLP = (
    b'{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"dnstrail"}}]},'
    b'"scopeLogs":[{"scope":{"name":"dnstrail"},"logRecords":%s}]}]}'
)
_STATUS = re.compile(rb'"status" ?: ?(\d{3})')
_CREATED, _EXISTS, _BUSY, _FAULT = range(200, 300), 409, 429, 500

Wrap = Callable[[LineSource, bytes], bytes]


def _as_it_is(_source: LineSource, line: bytes) -> bytes:
    return line


def _take_status(_answer: bytes, _lines: int) -> None:
    """Take an answer: its status has said everything."""


@dataclass(frozen=True)
class Preset:
    """A kind of receiver. `formats` are those that it accepts, its default first.

    `wrap` makes a line of a text in the format, and of what it is about; the line has no newline. `body` makes the
    request of a batch. `check` reads the first bytes of the body of an answer, if `reads` states that the status is not
    enough; it raises as the writer does. `query` is added to a URL without a query. `secret_path` states that the
    secret is the path of the URL: the file of the token holds it.
    """

    formats: tuple[str, ...]
    content_type: str
    body: Callable[[Sequence[bytes]], bytes]
    wrap: Wrap = _as_it_is
    check: Callable[[bytes, int], None] = _take_status
    reads: bool = False
    query: str = ""
    secret_path: bool = False
    most_bytes: int = _MOST_BYTES
    most: int = _MOST


def _array(lines: Sequence[bytes]) -> bytes:
    return b"[%s]" % b",\n".join(lines)


def _lines(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _slack_line(_source: LineSource, line: bytes) -> bytes:
    """Escape the characters that begin links and mentions."""
    return line.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")


def _slack(lines: Sequence[bytes]) -> bytes:
    """Return one message without formatting: names of strangers are no markup, and no link is fetched."""
    text = b"\n".join(lines).decode()
    return json_bytes({"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False})


def _elastic_line(source: LineSource, line: bytes) -> bytes:
    """Put the action before a document; its id makes a second delivery of the finding a conflict."""
    return json_bytes({"create": {"_id": source.id} if source.id else {}}) + _BETWEEN + line


def _elastic(lines: Sequence[bytes]) -> bytes:
    return b"".join(line.replace(_BETWEEN, b"\n", 1) + b"\n" for line in lines)


def _check_elastic(answer: bytes, lines: int) -> None:
    """Check the status of each document: the request itself is answered with 200. A known document was delivered.

    Raises:
        OSError: The answer is none of `_bulk`, or a document may be accepted later.
        RefusedError: Documents are refused for good.
    """
    if _ALL_WELL.search(answer):
        return
    failed = [int(status) for status in _STATUS.findall(answer)]
    if not failed:
        raise OSError("the answer is none of _bulk: write https://HOST:PORT/INDEX/_bulk")
    failed = [status for status in failed if status not in _CREATED and status != _EXISTS]
    if any(status == _BUSY or status >= _FAULT for status in failed):
        raise OSError(f"{len(failed)} of {lines} documents: status {max(failed)}")
    if failed:
        raise RefusedError(f"{len(failed)} of {lines} documents: status {failed[0]}", len(failed))


def _splunk_line(source: LineSource, line: bytes) -> bytes:
    """Return an event of the HTTP Event Collector; a line that is no JSON is a text."""
    event = line if line.startswith(b"{") else json_bytes(line.decode())
    about = {
        "time": source.timestamp // 1_000 / _MICROSECONDS,
        "source": "dnstrail",
        "sourcetype": "_json" if event is line else "dnstrail",
        **({"host": source.host} if source.host else {}),
    }
    return json_bytes(about)[:-1] + b', "event": ' + event + b"}"


def _loki_line(source: LineSource, line: bytes) -> bytes:
    """Return a stream with one entry; the labels have few values."""
    labels = {"job": "dnstrail", "event": source.event, **({"host": source.host} if source.host else {})}
    return json_bytes({"stream": labels, "values": [[str(source.timestamp), line.decode()]]})


def _loki(lines: Sequence[bytes]) -> bytes:
    return b'{"streams": %s}' % _array(lines)


def _attribute(key: str, value: str) -> dict[str, object]:
    return {"key": key, "value": {"stringValue": value}}


def _otlp_line(source: LineSource, line: bytes) -> bytes:
    """Return a log record of OTLP, whose body is the line."""
    number, text = _OTLP_NOTICE if source.severity is None else _OTLP_SEVERITIES[source.severity]
    attributes = [_attribute(key, value) for key, value in (("host.name", source.host), ("id", source.id)) if value]
    return json_bytes(
        {
            "timeUnixNano": str(source.timestamp),
            "severityNumber": number,
            "severityText": text,
            "eventName": source.event,
            "body": {"stringValue": line.decode()},
            "attributes": attributes,
        }
    )


def _otlp(lines: Sequence[bytes]) -> bytes:
    return _OTLP % _array(lines)


def _check_otlp(answer: bytes, lines: int) -> None:
    """Check what the receiver refuses of a request that it answers with 200.

    Raises:
        RefusedError: Records are refused for good (the specification forbids to send them again).
    """
    if (found := _REJECTED.search(answer)) and (refused := min(int(found[1]), lines)):
        raise RefusedError(f"{refused} of {lines} records", refused)


_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
ARRAY = Preset(("tracee", "ecs", "ocsf"), _JSON, _array)
LINES = Preset(("text",), _TEXT, _lines)
PRESETS: dict[str, Preset] = {
    "slack": Preset(("text",), _JSON, _slack, _slack_line, secret_path=True, most_bytes=_SLACK_BYTES),
    "elastic": Preset(
        ("ecs",),
        "application/x-ndjson",
        _elastic,
        _elastic_line,
        _check_elastic,
        reads=True,
        query="filter_path=errors,items.*.status",
    ),
    "splunk": Preset(("tracee", "ecs", "ocsf", "text"), _JSON, _lines, _splunk_line),
    "loki": Preset(("tracee", "ecs", "ocsf", "text"), _JSON, _loki, _loki_line),
    "otlp": Preset(("tracee", "ecs", "ocsf", "text"), _JSON, _otlp, _otlp_line, _check_otlp, reads=True),
}
