"""Write docs/reference/ from the code: commands, settings, bounds, counters, metrics, events, lookups and errors.

Usage: make_reference.py FOLDER

A comment `#: TEXT` states the meaning of the constant or field that it precedes or ends. `#: BOUND -> BEYOND` states a
bound, and what happens beyond it. A bound begins with its unit: bytes, seconds, ns or ms; any other one is a number.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import click
import msgspec
from prometheus_client.core import Metric

from dnstrail import errors
from dnstrail.events import DNS_TRANSACTION, OUTCOMES, SPECIFICATIONS
from dnstrail.image import Image
from dnstrail.metrics.server import closed_by_force
from dnstrail.process.clock import SystemClock
from dnstrail.process.config_file import DEFAULT, FLEET, TABLES, setting_of
from dnstrail.protocol import lookups
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.counters import COUNTERS, SECTIONS
from dnstrail.protocol.facts import HOPS
from dnstrail.protocol.losses import LossReporter
from dnstrail_cache.metrics import Resolvers, cache_metrics
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.health import STATUSES
from dnstrail_cli.__main__ import main_command
from dnstrail_findings.explainer import Explainer
from dnstrail_findings.metrics import findings_metrics
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.worker import FindingsWorker
from dnstrail_fleet.lookups.requests import Asked, FleetRequest
from dnstrail_fleet.metrics import sender_metrics, store_metrics
from dnstrail_fleet.metrics import signature_metrics as fleet_signature_metrics
from dnstrail_fleet.row import AskerRows, FleetEntry, FleetRow
from dnstrail_fleet.signatures.events import DNS_RELATION_NEW, DNS_RELATION_USED
from dnstrail_fleet.signatures.events import FIELDS as FLEET_FIELDS
from dnstrail_history.metrics import history_metrics
from dnstrail_probe.metrics import probe_metrics
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.loading.scope import CommonSettings
from dnstrail_signatures.loading.watch_rule import WatchRule
from dnstrail_signatures.metrics import signature_metrics
from dnstrail_signatures.worker import SignatureWorker
from dnstrail_web.metrics import web_metrics

ROOT = Path(__file__).parents[1]
_NOTE = "<!-- Written by deploy/make_reference.py: change the code, and run `make reference`. -->\n"
_TOPICS = {  # the headings of the bounds, and the modules below each; the first that fits
    "Admission": r"dnstrail\.image\.(admission|queries|parties)|dnstrail_cache\..*feeder",
    "The image": r"dnstrail\.(image|dns\.(?!whole))|dnstrail_cache\..*(open_connections|cache_clock)",
    "Lookups": r"dnstrail\.protocol\.lookups|dnstrail\.bus\.served|dnstrail_cache\.lookups\.(answers|pending)",
    "State": r"dnstrail_cache\..*(snapshots|state_file|dumps)|dnstrail_cli\.lookups\.dump",
    "dnstrail run": r"dnstrail_run",
    "Signatures": r"dnstrail_(signatures|cache\.groups)|dnstrail\.(tracee|events|dns\.)|.*(members|regular_file)",
    "Outputs of findings": r"dnstrail_findings",
    "The history": r"dnstrail_history|dnstrail\.history",
    "The page": r"dnstrail_web|dnstrail\.mutes",
    "The fleet": r"dnstrail_fleet",
    "Metrics": r"dnstrail\.metrics|dnstrail_cache\.metrics",
    "The probe": r"dnstrail_probe",
    "The all-in-one run": r"dnstrail_cli|dnstrail\.pipeline",
    "The bus": r"dnstrail",
}
_ASSIGNED = re.compile(r"(?P<indent> *)(?P<name>\w+)(?=[:,]| =)")
_DEFINED = re.compile(r"#define (?P<name>\w+) (?P<value>\d+)\s+//: (?P<text>.*)")
_CLASS = re.compile(r"class (\w+)")
_SECONDS = {"seconds": 1, "ns": 1e-9, "ms": 1e-3}
_DAY = 86400


@dataclass(frozen=True)
class Meaning:
    """The comment on a constant of a module, or on a field of a class in it."""

    module: str
    path: tuple[str, ...]
    text: str
    defined: int | None = None

    @property
    def value(self) -> Any:
        """The value of the constant, or the default of the field."""
        if self.defined is not None:
            return self.defined
        owner: Any = importlib.import_module(self.module)
        for name in self.path[:-1]:
            owner = getattr(owner, name)()
        return getattr(owner, self.path[-1])


@cache
def meanings() -> tuple[Meaning, ...]:
    """Return all comments of the product that state a meaning."""
    found: list[Meaning] = []
    for folder in (ROOT / "shared", *(ROOT / "services").iterdir()):
        for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.bpf.c")]):
            found += _meanings(file, ".".join(file.relative_to(folder).parts).removesuffix(".py"))
    return tuple(found)


def _meanings(file: Path, module: str) -> Iterator[Meaning]:
    owner, above = "", ""
    for line in file.read_text().splitlines():
        if found := _DEFINED.match(line):
            yield Meaning(module, (found["name"],), found["text"], int(found["value"]))
        owner = found[1] if (found := _CLASS.match(line)) else owner
        code, _, text = line.partition("#: ")
        if text and not code.strip():
            above = f"{above} {text}".strip()
            continue
        text, above = f"{above} {text}".strip(), ""
        if text and (named := _ASSIGNED.match(code)):
            path = (owner, named["name"]) if named["indent"] else (named["name"],)
            yield Meaning(module, path, text)


def table(*rows: Iterable[object]) -> str:
    """Return a table whose first row is its head."""
    lines = [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len([*rows[0]]), *lines[1:]]) + "\n"


def named(rows: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the rows of names and their meanings."""
    return ((f"`{name}`", text) for name, text in rows.items())


def commands() -> Iterator[str]:
    """Yield the page of the commands."""
    yield "# Commands\n\nThe options of each command. Most are keys of the [settings file](settings.md), too.\n"
    for name, command, ctx in _commands(main_command, "dnstrail"):
        options = [
            found for one in command.params if isinstance(one, click.Option) and (found := one.get_help_record(ctx))
        ]
        usage = " ".join(command.collect_usage_pieces(ctx))
        yield f"\n## {name}\n\n```text\n{name} {usage}\n```\n\n{inspect.cleandoc(command.help or '')}\n"
        if options:
            yield "\n" + table(("option", "meaning"), *((f"`{words}`", text or " ") for words, text in options))
        if command.epilog:
            yield "\n```text\n" + inspect.cleandoc(command.epilog.partition("Examples:\n")[2]) + "\n```\n"


def _commands(
    command: click.Command, name: str, above: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    ctx = click.Context(command, info_name=name, parent=above)
    yield name, command, ctx
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            if found := command.get_command(ctx, below):
                yield from _commands(found, f"{name} {below}", ctx)


def settings() -> Iterator[str]:
    """Yield the page of the settings file and of the environment."""
    yield _SETTINGS
    yield table(("key", "tables", "value", "meaning"), *_keys())
    yield "\n## Signatures\n\nThe table of a signature is `[signature.NAME]`, with the name that findings show.\n"
    yield "[Detections](detections.md) lists the further keys of each built-in signature.\n\n"
    yield table(("key", "value", "meaning"), *_signature_keys(CommonSettings))
    yield "\n## Rules\n\nA table `[[watch]]` is a [rule](../use/watch.md#write-rules) for transactions.\n\n"
    yield table(("key", "value", "meaning"), *_signature_keys(WatchRule))
    yield f"\n## Hosts\n\nThe table `[{FLEET}.hosts]` has the address of the cache of each host, by its name:"
    yield " [`fleet get --host`](../use/fleet.md#ask) asks it.\n"
    yield "\n## Environment variables\n\nThe command line comes before the environment, and this before the file.\n\n"
    yield table(("variable", "meaning"), *_constants("variable"))


_SETTINGS = f"""# Settings

`--config FILE`, by default `{DEFAULT}`, is a file of TOML. A table has the name of its command. Its keys are the long
[options](commands.md) of the command: a flag has `true` or `false`, an option that can be repeated a list.

"""


def _keys() -> Iterator[tuple[str, ...]]:
    found: dict[str, tuple[list[str], str, str]] = {}
    with click.Context(main_command) as ctx:
        for name in TABLES:
            command = main_command if name == "dnstrail" else main_command.get_command(ctx, name)
            for option in command.params if command else ():
                if (key := setting_of(option)) and isinstance(option, click.Option) and not option.hidden:
                    found.setdefault(key, ([], _value_of(option), option.help or ""))[0].append(f"`{name}`")
    for key, (tables, value, text) in sorted(found.items()):
        yield f"`{key}`", ", ".join(tables), value, text


def _value_of(option: click.Option) -> str:
    if option.is_flag:
        return "true, false"
    if isinstance(option.type, click.Choice):
        return ", ".join(option.type.choices)
    return "list" if option.multiple else "number" if option.type.name.startswith(("int", "float")) else "text"


def _signature_keys(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for field in msgspec.inspect.type_info(struct).fields:
        types = getattr(field.type, "types", (field.type,))
        if inner := next((each.cls for each in types if isinstance(each, msgspec.inspect.StructType)), None):
            yield from _signature_keys(inner, f"{field.name}.")
        else:
            yield f"`{prefix}{field.name}`", _type(field.type), _meaning(struct, field.name)


def bounds() -> Iterator[str]:
    """Yield the page of the bounds that a user can meet or change."""
    yield _BOUNDS
    found: dict[str, list[tuple[str, str, str]]] = {topic: [] for topic in _TOPICS}
    for meaning in meanings():
        bound, arrow, beyond = meaning.text.partition(" -> ")
        if arrow:
            topic = next(topic for topic, modules in _TOPICS.items() if re.match(modules, meaning.module))
            found[topic].append((*_amount(meaning.value, bound), beyond))
    for topic, rows in found.items():
        yield f"\n## {topic}\n\n" + table(("bound", "value", "beyond it"), *rows)


_BOUNDS = """# Bounds

Every table is bounded, so memory stays flat under any traffic. Losses at a bound are [counted](counters.md). This page
lists the bounds that a user can meet or change. The others are constants of the code, each with a comment.
"""


def _amount(value: Any, bound: str) -> tuple[str, str]:
    """Return a bound in words, and its value with a unit."""
    unit, _, rest = bound.partition(" ")
    if unit == "bytes":
        return bound, _bytes(value)
    if unit not in _SECONDS:
        return bound, f"{value:,}"
    seconds = value * _SECONDS[unit]
    return f"time {rest}", f"{seconds / _DAY:g} days" if seconds % _DAY == 0 else f"{seconds:,g} s"


def _bytes(value: int) -> str:
    size, name = next((unit for unit in ((1 << 20, "MiB"), (1 << 10, "KiB")) if value % unit[0] == 0), (1, "bytes"))
    return f"{value // size:,} {name}"


def counters() -> Iterator[str]:
    """Yield the page of the counters and of the health."""
    yield "# Counters and health\n\n`dnstrail stats` prints these sections. An empty section has no counter yet.\n\n"
    yield table(("section", "content"), *named(SECTIONS))
    for section, rows in COUNTERS.items():
        yield f"\n## {section}\n\n" + table(("counter", "counts"), *named(rows))
    yield "\n## health\n\n`dnstrail health` exits with 0 only if the status is `ok`, an event was applied, and every"
    yield " signature runs as its settings state.\n\n"
    yield table(("status", "meaning"), *named(STATUSES))


def metrics() -> Iterator[str]:
    """Yield the page of the metrics."""
    yield "# Metrics\n\nEach worker serves these metrics with `--metrics`, and counts its own losses.\n\n"
    rows: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for worker, family in _families():
        labels = ",".join(dict.fromkeys(getattr(family, "_labelnames", ())))
        name = family.name + ("_total" if family.type == "counter" else "") + (f"{{{labels}}}" if labels else "")
        workers, texts = rows.setdefault(name, ({}, {}))
        workers[worker] = texts[family.documentation] = None
    yield table(
        ("metric", "workers", "content"), *((f"`{n}`", ", ".join(w), " ".join(t)) for n, (w, t) in rows.items())
    )


def _families() -> Iterator[tuple[str, Metric]]:
    """Yield all families of metrics of all workers."""
    state = CacheState(Image(), SystemClock())
    outputs = make_outputs([parse_target("stdout")])
    workers = {
        "probe": probe_metrics(MagicMock(losses={}, counters=Counter()), BatchPublisher(MagicMock(), "", live=True)),
        "cache": cache_metrics(state, Resolvers()),
        "signatures": signature_metrics(SignatureWorker(MagicMock(), Chosen.of(), Delivery(print))),
        "findings": findings_metrics(FindingsWorker(outputs, Explainer(None), LossReporter())),
        "fleet sender": sender_metrics(MagicMock(counters=Counter(), waiting=0, behind=0)),
        "fleet signatures": fleet_signature_metrics(MagicMock(counters=Counter(), waiting=0)),
        "fleet store": store_metrics(MagicMock(counters=Counter(), store=MagicMock(counters=Counter()), lag={})),
        "history": history_metrics(MagicMock(losses={}, counters=Counter(), store=MagicMock(counters=Counter()))),
        "web": web_metrics(MagicMock(losses={}, counters=Counter()), MagicMock(readers=0, lost_readers=0)),
    }
    for worker, families in workers.items():
        yield from ((worker, family) for family in (*families, closed_by_force({})))


def events() -> Iterator[str]:
    """Yield the page of the events."""
    rows = ((f"`{one.name}`", one.id, one.emitter, one.words) for one in SPECIFICATIONS)
    yield "# Events\n\n" + table(("event", "id", "source", "meaning"), *rows) + _EVENTS
    for event in SPECIFICATIONS:
        fields = (
            (f"`{one.name}`", f"`{one.type}`", f"{one.meaning} ({one.unit})" if one.unit else one.meaning)
            for one in event.fields
        )
        yield f"\n## {event.name}\n\n"
        yield table(("argument", "type", "meaning"), *fields) if event.fields else "It has no arguments.\n"
        if event.name == DNS_TRANSACTION:
            cases = ((case, " ".join(f"`{one}`" for one in transactions)) for case, *transactions in _CASES)
            yield _CASES_HEAD + table(("case", "transactions"), *cases)
    yield _FACTS + table(("argument", "form"), *named(_FORMS))


_EVENTS = """
Ids are tracee's. Events that tracee lacks have ids from 7000 up, and [findings](detections.md) from 6000 up. A derived
event exists only where `--events` or a signature selects it. `timestamp` is nanoseconds of wall time.
"""

_CASES_HEAD = """
Tests on a real kernel show these cases, each with its transactions in the order of asking. `dnstrail log` leaves out
the questions of a forwarder with `for`.

"""
_CASES = (
    ("a client asks a server", "client A answered"),
    (
        "application, stub and resolver on one host",
        "client A answered",
        "forwarder for client A answered",
        "forwarder for client A answered",
    ),
    ("a container behind NAT", "client A answered"),
    ("a resolver behind NAT to another port", "client A answered", "forwarder for client A answered"),
    (
        "a resolver behind NAT to another port, over TCP",
        "client A answered over TCP",
        "forwarder for client A answered over TCP",
    ),
    ("a client of another host asks a resolver here", "served A answered", "forwarder for served A answered"),
    ("a retry from the same socket", "client A answered in 2 tries"),
    ("nobody answers for 30 seconds", "client A unanswered"),
    ("the answer is captured before its question", "client A answered"),
    ("the answer comes after 30 seconds", "client A unanswered"),
    ("a question over TCP", "client A answered over TCP"),
    ("a truncated answer, and the question over TCP", "client TXT truncated", "client TXT answered over TCP"),
    ("`getaddrinfo` finds a name in `/etc/hosts`", "client A answered without packets"),
    ("`getaddrinfo` asks for A and AAAA", "client A answered", "client AAAA answered"),
    ("more than 1,024 questions wait: the oldest", "client A unknown"),
)

_FACTS = """
## Facts on the wire

A program in any language subscribes at `facts.sock` to the facts it wants and to `turn` (ZeroMQ SUB). A message has two
frames: the topic, and a MessagePack array. A batch is
`[start, turn, sequence, [containers, processes, events, labels], before, host, probe]`, and each event
`[process, time, "", flow, {"": values}, ...]`:

* `process` is a place in `processes`, -1 if it is unknown. `time` is in ns.
* `flow` is nil, or `[src, src_port, dst, dst_port, transport, ...]` with packed addresses.
* `values` are the other arguments in the order of their table. nil is unknown, or false, and may be missing at the end.
* `id` names an event of the probe with the start `probe`: `[batch, place]` is `probe/net_packet_dns/batch/place/end`,
  and in `net_connection`, `[topic, batch, place]` is `probe/topic/batch/place/stage`. An event of another start is
  text: `start/batch/place`, in `net_connection` the whole id.

Later versions add values at the end. These have a shorter form, all but `transport` in `dns_transaction` alone:

"""


def _numbered(words: Iterable[str]) -> str:
    """Return words with their numbers on the wire."""
    return ", ".join(f"{number} {word}" for number, word in enumerate(words))


_FORMS = {
    "for": "as `id`",
    "transport": "nil: `flow` has it",
    "resolver": "the packed address",
    "hop": _numbered(HOPS),
    "type": "its number",
    "outcome": _numbered(OUTCOMES),
    "relations": "`[type, target, ttl]`, then the owner (0: as before) unless it is `name` or the target before",
}


def operations() -> Iterator[str]:
    """Yield the page of the operations on the wire."""
    yield _OPERATIONS
    for struct in (lookups.Request, lookups.RankRequest.__base__, lookups.GetRequest.__base__):
        users = ", ".join(f"`{name}`" for name, one in lookups.OPERATIONS.items() if issubclass(one, struct))
        yield f"\n### Fields of {'all operations' if struct is lookups.Request else users}\n\n"
        yield table(("field", "type", "default", "meaning"), *_fields(struct))
    yield "\n## Operations\n"
    for name, operation in lookups.OPERATIONS.items():
        yield f"\n### {name}\n\n{inspect.getdoc(operation)}\n"
        own = [*_fields(operation)]
        if own:
            yield "\n" + table(("field", "type", "default", "meaning"), *own)
        if operation is lookups.RankRequest:
            yield "\nEach connection is a map:\n\n"
            yield table(("field", "type", "default", "meaning"), *_fields(lookups.ConnectionTo))
    yield "\n## Errors\n\n" + table(("`error`", "meaning"), *_constants("error"))


_OPERATIONS = """# Lookups on the wire

A request is one MessagePack map, and so is its reply. Fields that an operation does not have are ignored.

```text
{"v": 1, "op": "get", "key": "shop.example"}
{"v": 1, "ok": true, "data": ..., "complete": true}
{"v": 1, "ok": false, "error": "data_not_found", "message": "requested data was not found"}
```

`complete` is false if a turn of `after` was not received in time. `source` is in a reply, and `history`, if the
[history](../use/history.md#who-was-it-last-tuesday) answered in place of the cache. `history` is in a reply, and false,
if the cache no longer knows everything about the time of the request.

## Common fields
"""


def _fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the fields that a Struct adds to its parent."""
    added = {*struct.__struct_fields__}.difference(getattr(struct.__base__, "__struct_fields__", ()))
    for field in msgspec.inspect.type_info(struct).fields:
        if field.name in added:
            yield f"`{field.name}`", _type(field.type), _default(field), _meaning(struct, field.name)


def _default(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "" if default is None or isinstance(default, msgspec.Struct) else f"`{json.dumps(default)}`"


def _meaning(struct: type, field: str) -> str:
    owners = [owner.__name__ for owner in struct.__mro__]
    return next((each.text for owner in owners for each in meanings() if each.path == (owner, field)), "")


def _type(info: msgspec.inspect.Type) -> str:
    """Return a type in the words of MessagePack."""
    if isinstance(info, msgspec.inspect.UnionType):
        return " or ".join(_type(each) for each in info.types if not isinstance(each, msgspec.inspect.NoneType))
    if isinstance(info, msgspec.inspect.VarTupleType):
        return f"list of {_type(info.item_type)}"
    return _TYPES.get(type(info).__name__, "text")


_TYPES = {"BoolType": "true, false", "DateTimeType": "time", "DictType": "map", "FloatType": "number"}
_TYPES |= {"IntType": "integer", "StructType": "map", "TupleType": "list"}


def fleet() -> Iterator[str]:
    """Yield the page of the fleet: what is sent, and the operations of the store."""
    yield _FLEET
    for struct in (FleetEntry, AskerRows, FleetRow):
        yield f"\n### {struct.__name__}\n\n{inspect.getdoc(struct)}\n\n"
        yield table(("field", "type", "meaning"), *((name, kind, text) for name, kind, _, text in _fields(struct)))
    yield "\n## Operations\n\nA request is one MessagePack map with `v` 1 and `op`, as at the [cache](lookups.md).\n"
    for operation in get_args(Asked):
        yield f"\n### {operation.__struct_config__.tag}\n\n{inspect.getdoc(operation)}\n\n"
        rows = (
            row for owner in reversed(operation.__mro__) if issubclass(owner, FleetRequest) for row in _fields(owner)
        )
        yield table(("field", "type", "default", "meaning"), *rows)
    yield f"\n## {DNS_RELATION_NEW}\n\n{_EVENT_OF_FLEET}\n\n## {DNS_RELATION_USED}\n\n{_USE_OF_FLEET}\n\n"
    yield table(("argument", "type", "meaning"), *((one.name, f"`{one.type}`", one.meaning) for one in FLEET_FIELDS))


_EVENT_OF_FLEET = """The event of the [signatures of the fleet](../use/fleet.md#signatures): a relation that its host
did not send before for this question, program and container. The event names all of them. Its times are corrected by
the engine's time. Its arguments are those of `dns_relation_used`."""
_USE_OF_FLEET = """The first connection by a relation on a day, as its host sends it. The next day has its own event."""

_FLEET = """# The fleet on the wire

The sender of a host appends entries to a stream of the engine, in its field `e`. An entry is a MessagePack map. Rows
merge by minimum (`first`) and maximum (all other numbers): they may arrive twice, and in any order.

## Entries
"""


def failures() -> Iterator[str]:
    """Yield the page of the exit codes and the exceptions."""
    yield "# Exit codes and exceptions\n\n`dnstrail run` exits with the code of its command otherwise.\n\n"
    yield table(("code", "meaning"), *sorted(_constants("exit"), key=lambda row: int(row[0].strip("`"))))
    yield "\n## Exceptions\n\n`dnstrail.errors` holds what dnstrail raises on purpose.\n\n"
    raised = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.DnstrailError)]
    rows = ((f"`{each.__name__}`", " ".join((inspect.getdoc(each) or "").split())) for each in raised)
    yield table(("exception", "meaning"), *rows)


def _constants(kind: str) -> Iterator[tuple[str, str]]:
    """Yield value and meaning of the constants of one kind."""
    for meaning in meanings():
        if meaning.text.startswith(f"{kind}: "):
            yield f"`{meaning.value}`", meaning.text.removeprefix(f"{kind}: ")


PAGES: dict[str, Callable[[], Iterator[str]]] = {"lookups": operations, "errors": failures}
PAGES |= {page.__name__: page for page in (commands, settings, bounds, counters, metrics, events, fleet)}


def write(folder: Path) -> None:
    """Write all pages into a folder."""
    for name, page in PAGES.items():
        text = "".join(page())
        (folder / f"{name}.md").write_text(text.replace("\n", f"\n\n{_NOTE}", 1).replace("\n\n\n", "\n\n"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
