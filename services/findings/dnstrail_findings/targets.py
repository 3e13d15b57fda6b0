"""The option `--to`: an output by its kind, its place, its format and its bounds."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from dnstrail.bus.ipc import check_address
from dnstrail.errors import BusError, SettingsError
from dnstrail.regular_file import read_regular
from dnstrail_findings.finding import LineSource, ReceivedFinding
from dnstrail_findings.formats import ecs, ocsf, text, tracee
from dnstrail_findings.output import Encode, Output, Writer
from dnstrail_findings.presets import ARRAY, LINES, PRESETS, Preset
from dnstrail_findings.spool import Spool
from dnstrail_findings.writers.kafka import MECHANISMS, KafkaLogin, KafkaWriter, parse_topic
from dnstrail_findings.writers.log_file import LogFile, Stdout, try_file
from dnstrail_findings.writers.publisher import FindingPublisher
from dnstrail_findings.writers.syslog import (
    LONGEST_DATAGRAM,
    TCP,
    UDP,
    UNIX,
    Syslog,
    SyslogServer,
    syslog_message,
    try_socket,
)
from dnstrail_findings.writers.webhook import Webhook, parse_url

FORMATS: dict[str, Encode] = {
    "tracee": tracee,
    "ecs": ecs.encode,
    "ocsf": ocsf.encode,
    "text": text.encode,
}
MOST_OUTPUTS = 16  #: outputs -> `dnstrail findings` does not start
MIB = 1 << 20
SIZE = 64  # MiB of a file, and of a spool
FILES = 5
HELP = (
    "Write findings to stdout, file:PATH[,size=MIB][,files=N], syslog[:/SOCKET|:udp://HOST:PORT|:tcp://HOST:PORT], "
    f"pub:ADDRESS, webhook:URL[,preset={'|'.join(PRESETS)}][,token=FILE][,spool=FOLDER[,size=MIB]] or "
    f"kafka:HOST[:PORT]/TOPIC[,ca=FILE][,user=NAME,token=FILE[,sasl={'|'.join(MECHANISMS)}]]"
    "[,spool=FOLDER[,size=MIB]]; "
    f"each with [,format={'|'.join(FORMATS)}] (repeatable; "
    "default: stdout)."
)
_OPTIONS = {
    "stdout": ("format",),
    "file": ("format", "size", "files"),
    "syslog": ("format",),
    "pub": ("format",),
    "webhook": ("format", "preset", "token", "spool", "size"),
    "kafka": ("format", "ca", "user", "token", "sasl", "spool", "size"),
}
_OPTION = re.compile(r",(\w+)=([^,]*)$", re.ASCII)
_SERVER = re.compile(rf"({UDP}|{TCP})://(?:\[([0-9a-fA-F:.]+)\]|([^\s/:\[\]]+)):(\d{{1,5}})", re.ASCII)
_SECRET_PATH = re.compile(r"/[A-Za-z0-9/_.~-]+", re.ASCII)
_MOST_DIGITS = 6
_PORTS = 1 << 16
_SOURCE: Callable[[Any], LineSource] = attrgetter("source")
_LONGEST_TOKEN = 8192  # bytes of the file


@dataclass(frozen=True)
class Target:
    """An output as it was requested. `token` is read when the option is, before the worker changes its user."""

    kind: str
    place: str
    options: dict[str, str] = field(default_factory=dict)
    token: str = field(default="", repr=False)


def parse_target(value: str) -> Target:
    """Return the output that a value of `--to` names.

    Raises:
        SettingsError: The value names no output.
    """
    kind, separator, rest = value.partition(":")
    if not separator:
        kind, _, _ = value.partition(",")
        rest = value.removeprefix(kind)
    if kind not in _OPTIONS:
        raise SettingsError(f"--to {kind}: write one of {', '.join(_OPTIONS)}")
    place, options = _split(kind, rest)
    target = Target(kind, place, options, _read_token(kind, options["token"]) if "token" in options else "")
    _check(target)
    return target


def try_places(targets: Iterable[Target]) -> None:
    """Check that this user can write to the files and the sockets of this host. No receiver elsewhere is asked.

    Raises:
        SettingsError: One cannot be written to.
    """
    for target in targets:
        try:
            if target.kind == "file":
                try_file(Path(target.place))
            elif target.kind == "syslog":
                try_socket(_server(target.place))
        except OSError as error:
            place = f"--to {target.kind}:{target.place or _server(target.place).host}"
            remedy = f"user {os.geteuid()} has to be able to write there"
            raise SettingsError(f"{place}: {error.strerror or error}: {remedy}") from error


@dataclass(frozen=True)
class FactLines:
    """How lines are made of facts: their format by its name among FORMATS, and what each of them is about."""

    format: str
    encode: Encode
    source: Callable[[Any], LineSource]


def make_outputs(targets: Iterable[Target], facts: FactLines | None = None) -> list[Output]:
    """Return an output for each target, of findings or of `facts`; a second one of a kind has a number in its name.

    Raises:
        BusError: An address cannot be bound.
        SettingsError: A spool cannot be used, two outputs have one file, there are too many outputs, or one does not
            take facts in their format.
    """
    asked = [*targets]
    if facts is not None:
        for target in asked:
            _check_for_facts(target, facts)
    if len(asked) > MOST_OUTPUTS:
        raise SettingsError(f"--to: {len(asked)} outputs are too many; {MOST_OUTPUTS} at most")
    files = Counter(target.place for target in asked if target.kind == "file")
    if files and max(files.values()) > 1:
        raise SettingsError("--to: two outputs write to one file")
    kinds: Counter[str] = Counter()
    outputs = []
    for target in asked:
        kinds[target.kind] += 1
        number = kinds[target.kind]
        outputs.append(_output(target, target.kind if number == 1 else f"{target.kind}-{number}", facts))
    return outputs


def _check_for_facts(target: Target, facts: FactLines) -> None:
    """Refuse a target that does not take facts in their format.

    Raises:
        SettingsError: The error names the remedy.
    """
    if target.kind in ("stdout", "pub"):
        raise SettingsError(f"--to {target.kind}: write file:PATH, syslog, webhook:URL or kafka:HOST/TOPIC")
    if "format" in target.options:
        raise SettingsError(f"--to {target.kind}: format={target.options['format']}: --output names the format")
    if target.kind == "webhook" and facts.format not in (known := _preset(target).formats):
        named = " or ".join(f"--output {one}" for one in known if one in ("ecs", "ocsf")) or "findings alone"
        raise SettingsError(f"--to webhook: preset={target.options.get('preset')}: it takes {named}")


def _output(target: Target, name: str, facts: FactLines | None) -> Output:
    counters: Counter[str] = Counter()
    folder = target.options.get("spool")
    spool = None if folder is None else Spool(Path(folder), _number(target, "size", SIZE) * MIB, counters)
    return Output(name, _encoder(target, facts), _writer(target), spool, counters)


def _writer(target: Target) -> Writer:
    match target.kind:
        case "file":
            return LogFile(Path(target.place), _number(target, "size", SIZE) * MIB, _number(target, "files", FILES))
        case "syslog":
            return Syslog(_server(target.place))
        case "pub":
            return FindingPublisher(target.place)
        case "webhook":
            return _webhook(target)
        case "kafka":
            return KafkaWriter(parse_topic(target.place), _login(target))
        case _:
            return Stdout()


def _encoder(target: Target, facts: FactLines | None) -> Encode:
    if facts is None:
        encode, source = FORMATS[_format(target)], _SOURCE
    else:
        encode, source = facts.encode, facts.source
    if target.kind == "webhook":
        wrap = _preset(target).wrap
        return lambda item: wrap(source(item), encode(item))
    if target.kind != "syslog":
        return encode
    if facts is not None:  # the writer refuses what is too long for a datagram
        return lambda item: syslog_message(source(item), encode(item))
    return partial(_syslog, encode, None if _server(target.place).transport == TCP else LONGEST_DATAGRAM)


def _webhook(target: Target) -> Webhook:
    preset, url, token = _preset(target), parse_url(target.place), target.token
    if preset.secret_path and token:
        url, token = parse_url(target.place.rstrip("/") + token), ""
    return Webhook(url, token=token, preset=preset)


def _login(target: Target) -> KafkaLogin:
    options = target.options
    if ("user" in options) != bool(target.token) or ("sasl" in options and "user" not in options):
        raise SettingsError("--to kafka: a user needs the file of the password: user=NAME,token=FILE")
    if (mechanism := options.get("sasl", MECHANISMS[0])) not in MECHANISMS:
        raise SettingsError(f"--to kafka: sasl={mechanism}: write one of {', '.join(MECHANISMS)}")
    ca = Path(options["ca"]) if "ca" in options else None
    return KafkaLogin(ca, options.get("user", ""), target.token, mechanism)


def _preset(target: Target) -> Preset:
    name = target.options.get("preset")
    if name is None:
        return LINES if target.options.get("format") == "text" else ARRAY
    if name not in PRESETS:
        raise SettingsError(f"--to webhook: preset={name}: write one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _syslog(encode: Encode, longest: int | None, finding: ReceivedFinding) -> bytes:
    """Return a message; one that is too long for a datagram has the line for people."""
    message = syslog_message(finding.source, encode(finding))
    return message if longest is None or len(message) <= longest else _syslog(text.encode, None, finding)


def _split(kind: str, rest: str) -> tuple[str, dict[str, str]]:
    """Return the place and the options behind it. A place may contain commas, and an option may not."""
    options: dict[str, str] = {}
    while (found := _OPTION.search(rest)) and found[1] in _OPTIONS[kind]:
        options[found[1]] = found[2]
        rest = rest[: found.start()]
    return rest, options


def _check(target: Target) -> None:
    """Refuse a target whose parts cannot be used."""
    checks: dict[str, Callable[[str], object]] = {
        "file": _path,
        "syslog": _server,
        "pub": _address,
        "webhook": parse_url,
        "kafka": parse_topic,
    }
    if target.kind in checks:
        checks[target.kind](target.place)
    elif target.place:
        raise SettingsError(f"--to {target.kind}: {target.place!r} is unknown")
    _format(target)
    for name in ("size", "files"):
        _number(target, name, 1)
    if target.kind == "webhook" and _preset(target).secret_path and target.token:
        _check_path(target.options["token"], target.token)
    if target.kind == "kafka":
        _login(target)
    if target.kind in ("webhook", "kafka") and "size" in target.options and "spool" not in target.options:
        raise SettingsError(f"--to {target.kind}: size= is the size of a spool; name its folder with spool=FOLDER")


def _path(place: str) -> None:
    if not place:
        raise SettingsError("--to file: write file:PATH")


def _check_path(file: str, path: str) -> None:
    if not _SECRET_PATH.fullmatch(path):
        raise SettingsError(f"--to webhook: token={file}: with this preset its first line is the path of the URL: /...")


def _address(place: str) -> None:
    try:
        check_address(place, local=True)
    except BusError as error:
        raise SettingsError(f"--to pub: {place!r}: {error.reason}") from error


def _server(place: str) -> SyslogServer:
    if not place or place.startswith("/"):
        return SyslogServer(UNIX, place or "/dev/log")
    found = _SERVER.fullmatch(place)
    if found is None or not 0 < int(found[4]) < _PORTS:
        raise SettingsError(f"--to syslog: {place!r}: write udp://HOST:PORT, tcp://HOST:PORT or the path of a socket")
    host = found[2] or found[3]
    try:
        host.encode("idna")  # as `getaddrinfo` does, which refuses a label that is empty or too long
    except UnicodeError as error:
        raise SettingsError(f"--to syslog: {place!r:.200}: {error}") from error
    return SyslogServer(found[1], host, int(found[4]))


def _format(target: Target) -> str:
    if target.kind == "webhook":
        known = _preset(target).formats if "preset" in target.options else (*FORMATS,)
    else:
        known = ("text", *FORMATS) if target.kind == "syslog" else (*FORMATS,)
    name = target.options.get("format", known[0])
    if name not in known:
        raise SettingsError(f"--to {target.kind}: format={name}: write one of {', '.join(dict.fromkeys(known))}")
    return name


def _number(target: Target, name: str, default: int) -> int:
    value = target.options.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS and int(value)):
        raise SettingsError(f"--to {target.kind}: {name}={value}: write a whole number from 1 on")
    return int(value)


def _read_token(kind: str, path: str) -> str:
    """Return the value of the field Authorization, or a password: the first line of a file."""
    try:
        token = read_regular(path, _LONGEST_TOKEN).partition(b"\n")[0].strip().decode("ascii")
    except OSError as error:
        raise SettingsError(f"--to {kind}: token={path}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise SettingsError(f"--to {kind}: token={path}: its first line is no text")
    return token
