"""Attaches the programs of this folder to the cgroup of a command, and reads what they refused."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ctypes import c_uint32, c_uint64, sizeof
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from dnstrail.errors import SourceUnavailable
from dnstrail.kept_objects import load_kept
from dnstrail.kernel.bpf import (
    AttachType,
    ProgramType,
    attach_cgroup,
    delete,
    link_cgroup,
    look_up,
    read_batch,
    update,
)
from dnstrail.kernel.objects import BpfObject, LoadedObject
from dnstrail.kernel.ring_buffer import RingBuffer
from dnstrail_run.allow_list import MOST_ENTRIES, USUAL_TYPES
from dnstrail_run.enforce.refusals import NAME, REASONS, Attempt, Limits
from dnstrail_run.enforce.rules import ANSWERED, Rule, Rules, address_key
from dnstrail_run.enforce.server_name import ENDING_PAGES, Endings, defines
from dnstrail_run.enforce.structures import (
    GUIDES,
    SHOWN,
    START,
    ConflictValue,
    FirstRecord,
    RefusalKey,
    UnaskedValue,
    WaitingValue,
    attempt_of,
    conflict_of,
    question_of,
)
from dnstrail_run.namespaces import MOST_NAMESPACES, MOST_RESOLVERS, NetworkNamespace
from dnstrail_run.report import Conflict

#: addresses to which the allowed names of one command led; with `--check-server-name`, each with each name ->
#: connections to further ones are refused; the report states their number
MOST_GIVEN = 65_536
#: different refusals in one report -> further ones are refused, too; the report states their number
MOST_REFUSED = 4_096
#: labels and records of one answer that `--enforce` reads: a record of a compressed name is one -> connections to the
#: addresses behind them are refused; the report states the number of such answers
MOST_STEPS = 256
#: questions over UDP whose answers `--enforce` awaits -> the least recently used is evicted, and its answer leads
#: nowhere; the report states the number of such answers
MOST_QUESTIONS = 32_768
#: addresses of the answers to one question over UDP -> connections to further ones are refused; the report states their
#: number
MOST_ADDRESSES = 512
#: addresses of answers with their questions, for conflicting answers -> the least recently used is evicted; after a
#: conflict about it no name leads anywhere, and the report states it
MOST_TARGETS = 65_536
#: conflicting answers in one report -> the addresses of further ones are refused, too; the report states their number
MOST_CONFLICTS = 256
#: names that wait for the verdict of a person (`--ask`) -> questions about further ones are refused; the report states
#: their number
MOST_WAITING = 64
#: names that a person refused (`--ask`), and questions allowed once that were not repeated -> the person is asked again
#: about the least recently used name; a further question is refused instead of allowed
MOST_DECIDED = 4_096
_NAMES = ("maps", "speakers", "decide", "questions", "egress", "server_name", "source_routes", "answers")
_PARTS = [Path(__file__).with_name(f"{name}.bpf.c") for name in _NAMES]
_REMEDY = "Linux 5.15 or newer with CONFIG_CGROUP_BPF"
_INGRESS = (ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS)
_EGRESS = (ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS)
# Hook -> program type and attach type.
_HOOKS = {
    "egress": _EGRESS,
    "create": (ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET_SOCK_CREATE),
    "connect4": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT),
    "connect6": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT),
    "sendmsg4": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_SENDMSG),
    "sendmsg6": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_SENDMSG),
    "bind4": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_BIND),
    "bind6": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_BIND),
}
# Program array -> the program that others call by it.
_CALLED = {
    "finding": "on_ingress",
    "reading": "on_message",
    "answering": "on_answer",
    "contesting": "on_conflict",
    "noting": "on_question",
    **{f"deciding_{hook}": f"on_{hook}" for hook in _HOOKS},
}
_LEFT_ATTACHED = {"on_route": _EGRESS, **{f"guard_{hook}": where for hook, where in _HOOKS.items()}}
# Function -> program type and attach type.
_PROGRAMS = {
    **dict.fromkeys(("on_ingress", "on_message", "on_answer", "on_conflict"), _INGRESS),
    "on_question": _EGRESS,
    **{f"on_{hook}": where for hook, where in _HOOKS.items()},
    **_LEFT_ATTACHED,
}
_BOTH_FAMILIES = frozenset({1, 28})  # A and AAAA, which a C library asks together
# The same of `--ask`.
_ASKING = {"on_setsockopt": (ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_SETSOCKOPT)}
# The same of `--check-server-name`.
_CALLED_BY_NAME = {"requesting": "on_request", "judging": "on_stated"}
_BY_NAME = dict.fromkeys(("on_name", *_CALLED_BY_NAME.values()), _EGRESS)
_ONLY = b"\0" * 4  # the only key of an array
_FIRST_PAGES = 256  # of the buffer of first refusals, which has room for MOST_REFUSED of each kind


class Enforcement:
    """The programs on one cgroup: they refuse what the rules do not allow, until `end` or the end of this process.

    From then on they refuse everything, or (`allow_afterwards`) nothing, as long as the cgroup exists.

    Raises:
        SourceUnavailable: this host cannot load them; the error names the remedy.
    """

    def __init__(
        self,
        cgroup: Path,
        rules: Rules,
        namespaces: Sequence[NetworkNamespace],
        *,
        allow_afterwards: bool,
        any_question: bool,
        ask: bool = False,
        check_server_name: bool = False,
    ) -> None:
        self._refused: list[FirstRecord] = []
        self._waiting: list[int] = []
        self._endings = Endings(namespaces[0].cookie) if check_server_name else None
        programs = {**_PROGRAMS, **(_BY_NAME if check_server_name else {}), **(_ASKING if ask else {})}
        try:
            self._loaded = load_kept(program_text(), None, partial(_load, programs=programs))
            self._maps = self._loaded.maps
            self._firsts = RingBuffer(self._maps["firsts"], _FIRST_PAGES * mmap.PAGESIZE)
            self._ended = RingBuffer(self._maps["endings"], ENDING_PAGES * mmap.PAGESIZE)
            switches = allow_afterwards, any_question, ask, check_server_name
            start = START.pack(namespaces[0].cookie, secrets.randbits(64), *switches)
            self._put("starts", _ONLY, start)
            self._fill(rules)
            self._fill_resolvers(namespaces, rules)
            self._attach(cgroup, ask=ask)
        except OSError as error:
            raise SourceUnavailable("enforce", f"the kernel refused the programs: {error}", _REMEDY) from error

    @property
    def refusal_files(self) -> list[int]:
        """The descriptors of which one is readable after a first refusal, or a refused connection."""
        return [self._maps["firsts"], self._maps["endings"]]

    def firsts(self) -> list[Attempt]:
        """End the connections that were refused; return what was refused for the first time since the last call."""
        if self._endings is not None:
            self._endings.end(self._ended.drain())
        self._sort()
        found, self._refused = self._refused, []
        return [*map(self._first, found)]

    def waiting(self) -> list[int]:
        """Return the keys of the questions that wait for a verdict since the last call."""
        self._sort()
        found, self._waiting = self._waiting, []
        return found

    def question(self, waiting: int) -> Attempt:
        """Return a question that waits, by its key."""
        return question_of(self._value(waiting).question)

    def allow(self, waiting: int, *, once: bool) -> None:
        """Allow a question that waits: its name and type until the end, or `once` the question alone.

        Raises:
            OSError: there is no room for it.
        """
        question = self._value(waiting).question
        text = bytes(question.name).partition(b"\0")[0] + b"\0"
        key = (len(text) * 8).to_bytes(4, "little") + text.ljust(256, b"\0")
        rule = Rule(sets=1, types=ANSWERED, servers=1)
        with suppress(OSError):  # the name is in the list, or passed once
            rule = Rule.unpacked(look_up(self._maps["names"], key, len(rule.packed())))
        kind = question.kind
        if once:
            for passing in _passing(waiting, kind):
                self._put("once", passing, bytes(8))
        else:
            types = rule.types & ~ANSWERED | (0 if kind in USUAL_TYPES else 1 << kind)
            rule = replace(rule, types=types)
        if not once or REASONS[question.reason] == NAME:
            self._put("names", key, rule.packed())
        delete(self._maps["waiting"], waiting.to_bytes(8, "little"))

    def refuse(self, waiting: int) -> Attempt:
        """Refuse a question that waits, and the same ones from now on; return it."""
        found, key = self._value(waiting), waiting.to_bytes(8, "little")
        self._put("denied", key, bytes(8))
        for passing in _passing(waiting, found.question.kind):
            with suppress(FileNotFoundError):  # there is one if `allow` found no room for the other
                delete(self._maps["once"], passing)
        with suppress(OSError):  # the report has no room
            self._put("unasked", found.refusal.to_bytes(8, "little"), bytes(found.question))
        delete(self._maps["waiting"], key)
        return question_of(found.question)

    def attempts(self) -> list[Attempt]:
        """Return what was refused."""
        found = [attempt_of(key, times) for key, times in self._entries("refused", RefusalKey, c_uint64, MOST_REFUSED)]
        asked = self._entries("unasked", c_uint64, UnaskedValue, MOST_REFUSED)
        return [*found, *(question_of(value) for _, value in asked)]

    def conflicts(self) -> list[Conflict]:
        """Return the answers that contradict each other."""
        return [conflict_of(value) for _, value in self._entries("conflicts", c_uint64, ConflictValue, MOST_CONFLICTS)]

    def limits(self) -> Limits:
        """Return the numbers of what exceeded the bounds of the programs."""
        places = len(Limits.__struct_fields__)
        return Limits(*(count for _, count in self._entries("counters", c_uint32, c_uint64, places)))

    def guide(self, asker: int) -> None:
        """Learn the interfaces of the routes to the resolvers from what a socket in the cgroup sends to them."""
        update(self._maps["askers"], asker.to_bytes(4, "little"), GUIDES)

    def end(self) -> None:
        """End the work of the rules, as the end of this process does."""
        for hook in _HOOKS:
            with suppress(FileNotFoundError):  # ended before
                delete(self._maps[f"deciding_{hook}"], _ONLY)

    def close(self) -> None:
        """Close the maps and programs. The guards stay attached, and refuse as after the end of this process."""
        self._firsts.close()
        self._ended.close()
        self._loaded.close()

    def _sort(self) -> None:
        """Take the records of the ring buffer: what was refused, and what waits."""
        for record in self._firsts.drain():
            first = FirstRecord.from_buffer_copy(record)
            if first.waiting:
                self._waiting.append(first.waiting)
            else:
                self._refused.append(first)

    def _value(self, waiting: int) -> WaitingValue:
        key = waiting.to_bytes(8, "little")
        return WaitingValue.from_buffer_copy(look_up(self._maps["waiting"], key, sizeof(WaitingValue)))

    def _first(self, first: FirstRecord) -> Attempt:
        if not first.question:
            return attempt_of(first.refusal, 1)
        key = first.question.to_bytes(8, "little")
        return question_of(UnaskedValue.from_buffer_copy(look_up(self._maps["unasked"], key, sizeof(UnaskedValue))))

    def _entries(self, table: str, key: type[Any], value: type[Any], most: int) -> zip[tuple[Any, Any]]:
        """Return the entries of a map, which has `most` of them."""
        keys, values = (key * most)(), (value * most)()
        count = read_batch(self._maps[table], keys, values, take=False)
        return zip(keys[:count], values[:count], strict=True)

    def _fill(self, rules: Rules) -> None:
        for key, rule in rules.names.items():
            self._put("names", key, rule.packed())
        for key, mask in rules.networks.items():
            self._put("networks", key, mask.to_bytes(8, "little"))
        for port, mask in rules.ports.items():
            self._put("ports", port.to_bytes(4, "little"), mask.to_bytes(8, "little"))

    def _fill_resolvers(self, namespaces: Sequence[NetworkNamespace], rules: Rules) -> None:
        for namespace in namespaces:
            cookie = namespace.cookie.to_bytes(8, "little")
            self._put("homes", cookie, bytes(8))
            for resolver in namespace.resolvers:
                key = cookie + address_key(ip_address(resolver)) + bytes(4)
                servers = rules.servers.get(resolver, 0) | (resolver not in namespace.narrow)
                self._put("resolvers", key, bytes(8) + servers.to_bytes(8, "little"))  # no interface before `guide`

    def _attach(self, cgroup: Path, *, ask: bool) -> None:
        """Attach the programs: two by links, the others for as long as the cgroup or a socket of it exists."""
        is_checked = self._endings is not None
        for table, function in {**_CALLED, **(_CALLED_BY_NAME if is_checked else {})}.items():
            self._put(table, _ONLY, self._loaded.programs[function].to_bytes(4, "little"))
        folder = os.open(cgroup, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for function, (_, hook) in {"on_ingress": _INGRESS, **(_ASKING if ask else {})}.items():
                self._loaded.links.append(link_cgroup(self._loaded.programs[function], folder, hook))
            for function, (_, hook) in {**_LEFT_ATTACHED, **({"on_name": _EGRESS} if is_checked else {})}.items():
                attach_cgroup(self._loaded.programs[function], folder, hook)
        finally:
            os.close(folder)

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        update(self._maps[table], key, value)


def _passing(waiting: int, kind: int) -> list[bytes]:
    """Return the keys in `once` of a question that waits: those of both families of addresses count as one."""
    kinds = {kind, *_BOTH_FAMILIES} if kind in USUAL_TYPES else {kind}
    return [(waiting ^ each).to_bytes(8, "little") for each in kinds]


def program_text() -> str:
    """Return the text of the programs, with the bounds."""
    values = {
        **defines(),
        "FIRST_PAGES": _FIRST_PAGES,
        "ENTRIES": MOST_ENTRIES,
        "RESOLVERS": MOST_NAMESPACES * MOST_RESOLVERS,
        "NAMESPACES": MOST_NAMESPACES,
        "GIVEN": MOST_GIVEN,
        "REFUSED": MOST_REFUSED,
        "STEPS": MOST_STEPS,
        "QUESTIONS": MOST_QUESTIONS,
        "ADDRESSES": MOST_ADDRESSES,
        "TARGETS": MOST_TARGETS,
        "CONFLICTS": MOST_CONFLICTS,
        "SHOWN": SHOWN,
        "WAITING": MOST_WAITING,
        "ONCE": MOST_DECIDED,
        "DENIED": MOST_DECIDED,
    }
    texts = [f"#define {name} {value}" for name, value in values.items()]
    return "\n".join([*texts, *(part.read_text(encoding="utf-8") for part in _PARTS)])


def _load(compiled: BpfObject, programs: Mapping[str, tuple[ProgramType, AttachType]]) -> LoadedObject:
    """Load programs."""
    loaded = LoadedObject(compiled)
    try:
        for function, (kind, hook) in programs.items():
            loaded.load(function, kind, hook)
    except BaseException:
        loaded.close()
        raise
    return loaded
