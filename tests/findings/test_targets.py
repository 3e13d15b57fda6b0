"""The values of `--to`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.findings import cause_of, dns_answer, finding_of
from dnstrail.errors import SettingsError
from dnstrail_findings.targets import MOST_OUTPUTS, make_outputs, parse_target
from dnstrail_findings.writers.syslog import LONGEST_DATAGRAM


@pytest.mark.parametrize(
    ("value", "kind", "place", "options"),
    [
        ("stdout", "stdout", "", {}),
        ("stdout,format=ecs", "stdout", "", {"format": "ecs"}),
        (
            "file:/var/log/a,b,size=3,files=2,format=ocsf",
            "file",
            "/var/log/a,b",
            {"size": "3", "files": "2", "format": "ocsf"},
        ),
        ("file:x,other=1", "file", "x,other=1", {}),
        ("syslog", "syslog", "", {}),
        ("syslog,format=tracee", "syslog", "", {"format": "tracee"}),
        ("syslog:/run/log", "syslog", "/run/log", {}),
        ("syslog:udp://[::1]:514", "syslog", "udp://[::1]:514", {}),
        ("syslog:tcp://log.example:601", "syslog", "tcp://log.example:601", {}),
        ("webhook:https://a.example/x?y=1,2,format=text", "webhook", "https://a.example/x?y=1,2", {"format": "text"}),
        ("webhook:https://a.example/,spool=/s,size=1", "webhook", "https://a.example/", {"spool": "/s", "size": "1"}),
    ],
)
def test_a_target_has_its_parts(value: str, kind: str, place: str, options: dict[str, str]) -> None:
    """A target is a kind, a place and options; a comma in a place stays there."""
    target = parse_target(value)
    assert (target.kind, target.place, dict(sorted(target.options.items()))) == (
        kind,
        place,
        dict(sorted(options.items())),
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "kafka:x",
        "stdout:x",
        "stdout,size=3",
        "stdout,format=xml",
        "file",
        "file:",
        "file:x,size=0",
        "file:x,size=-1",
        "file:x,files=9999999",
        "file:x,size=1.5",
        "syslog:log.example:514",
        "syslog:udp://log.example",
        "syslog:udp://log.example:0",
        "syslog:udp://log.example:65536",
        "syslog:relative",
        "syslog:udp://log..example:514",
        f"syslog:tcp://{'a' * 64}.example:514",
        "pub:",
        "pub:foo",
        "pub:ipc://",
        "pub:tcp://127.0.0.1:1",
        "webhook:",
        "webhook:http://a.example/",
        "webhook:https://a..example/",
        f"webhook:https://{'a' * 64}.example/",
        "webhook:https://a.example/,size=5",
        "webhook:https://a.example/,token=/nowhere/token",
    ],
)
def test_another_target_is_refused(value: str) -> None:
    """A wrong target is refused with an error that names the option."""
    with pytest.raises(SettingsError, match="--to"):
        parse_target(value)


def test_a_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    """The token is read at once, never printed, and may not contain control bytes."""
    file = tmp_path / "token"
    file.write_text("Bearer s3cret\nmore\n")
    target = parse_target(f"webhook:https://a.example/,token={file}")
    assert target.token == "Bearer s3cret"
    assert "s3cret" not in repr(target)
    for wrong in (b"a\x01b", b"\n", b"\xff", b""):
        file.write_bytes(wrong)
        with pytest.raises(SettingsError, match="token="):
            parse_target(f"webhook:https://a.example/,token={file}")


def test_a_token_without_its_file_names_option_and_file() -> None:
    """A file of a token that cannot be read is named with its option, and the reason in words."""
    with pytest.raises(SettingsError, match=r"^--to webhook: token=/nowhere/token: No such file or directory$"):
        parse_target("webhook:https://a.example/,token=/nowhere/token")


def test_outputs_of_one_kind_are_numbered() -> None:
    """The names of outputs, which are labels of metrics, contain kinds and numbers alone."""
    targets = [parse_target(each) for each in ("stdout", "syslog", "stdout", "webhook:https://s3cret.example/")]
    assert [output.name for output in make_outputs(targets)] == ["stdout", "syslog", "stdout-2", "webhook"]


def test_the_outputs_are_bounded() -> None:
    """Beyond the bound the worker refuses to start."""
    with pytest.raises(SettingsError, match="too many"):
        make_outputs([parse_target("stdout")] * (MOST_OUTPUTS + 1))


def test_a_file_has_one_output() -> None:
    """Two outputs would rotate one file under each other."""
    with pytest.raises(SettingsError, match="one file"):
        make_outputs([parse_target("file:x,size=1"), parse_target("file:x,format=ecs")])


@pytest.mark.parametrize(("place", "whole"), [("udp://127.0.0.1:514", False), ("tcp://127.0.0.1:514", True)])
def test_a_long_finding_is_text_in_a_datagram(place: str, whole: bool) -> None:
    """A finding that is too long for a datagram is sent as the line for people, and no stranger can suppress it."""
    [output] = make_outputs([parse_target(f"syslog:{place},format=tracee")])
    message = output._encode(finding_of(cause_of(dns_answer()), data="x" * LONGEST_DATAGRAM))
    line = message.split(b" - ", 1)[1]
    assert (len(message) > LONGEST_DATAGRAM) == whole
    if whole:
        assert json.loads(line)["findingId"] == "f1"
    else:
        assert line.startswith(b"2026-11-01T12:00:05.012345Z HIGH RELAY_RESOLVED id=f1")
