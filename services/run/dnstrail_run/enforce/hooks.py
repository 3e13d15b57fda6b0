"""Attaches the programs of this folder to the cgroup of a command, and reads what they refused."""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.bpf import link_cgroup
from dnstrail.kernel.compiler import compile_text, load_bcc
from dnstrail.tracee.codes import TYPES
from dnstrail_run.allow_list import DNS, MOST_ENTRIES
from dnstrail_run.enforce.refusals import (
    ACTIONS,
    ASK,
    OTHER,
    REASONS,
    SOCKET,
    STATE,
    UNSTATED,
    Attempt,
    Limits,
    transport_of,
)
from dnstrail_run.enforce.rules import Rules, address_key
from dnstrail_run.enforce.server_name import Endings, defines
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
_SHOWN = 8  # addresses of each side of a conflict
_NAMES = ("maps", "speakers", "decide", "questions", "egress", "server_name", "source_routes", "answers")
_PARTS = [Path(__file__).with_name(f"{name}.bpf.c") for name in _NAMES]
_REMEDY = "Linux 5.15 or newer with CONFIG_CGROUP_BPF"
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI
_ANY = 0  # BPF_ANY
# Hook -> program type and attach type, by their names in bcc.
_HOOKS = {
    "create": ("CGROUP_SOCK", "CGROUP_INET_SOCK_CREATE"),
    "connect4": ("CGROUP_SOCK_ADDR", "CGROUP_INET4_CONNECT"),
    "connect6": ("CGROUP_SOCK_ADDR", "CGROUP_INET6_CONNECT"),
    "sendmsg4": ("CGROUP_SOCK_ADDR", "CGROUP_UDP4_SENDMSG"),
    "sendmsg6": ("CGROUP_SOCK_ADDR", "CGROUP_UDP6_SENDMSG"),
    "bind4": ("CGROUP_SOCK_ADDR", "CGROUP_INET4_BIND"),
    "bind6": ("CGROUP_SOCK_ADDR", "CGROUP_INET6_BIND"),
}
_INGRESS = ("CGROUP_SKB", "CGROUP_INET_INGRESS")
_EGRESS = ("CGROUP_SKB", "CGROUP_INET_EGRESS")
_NONE = b"\0" * 4  # the only key of a program array
_GUIDES = bytes(32) + (1).to_bytes(4, "little") + bytes(44)  # `struct asker` of a socket of the launcher
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
        check_server_name: bool = False,
    ) -> None:
        self._bcc = load_bcc()
        self._firsts: list[bytes] = []
        self._endings = Endings(namespaces[0].cookie) if check_server_name else None
        switches = {"AFTERWARDS": allow_afterwards, "ANY_QUESTION": any_question, "CHECKED": check_server_name}
        text = _text(namespaces[0], switches)
        try:
            self._bpf = compile_text(self._bcc, text)
            self._bpf["firsts"].open_ring_buffer(self._note_first)
            self._bpf["endings"].open_ring_buffer(self._note_ending)
            self._fill(rules)
            self._fill_resolvers(namespaces, rules)
            self._attach(cgroup)
        except Exception as error:  # bcc raises bare Exceptions
            raise SourceUnavailable("enforce", f"the kernel refused the programs: {error}", _REMEDY) from error

    @property
    def refusal_files(self) -> list[int]:
        """The descriptors of which one is readable after a first refusal, or a refused connection."""
        return [self._map("firsts"), self._map("endings")]

    def firsts(self) -> list[Attempt]:
        """End the connections that were refused; return what was refused for the first time since the last call."""
        self._bpf.ring_buffer_consume()
        if self._endings is not None:
            self._endings.end()
        found, self._firsts = self._firsts, []
        return [*map(self._first, found)]

    def attempts(self) -> list[Attempt]:
        """Return what was refused."""
        found = [_attempt(key, times.value) for key, times in self._bpf["refused"].items()]
        return [*found, *map(_question, self._bpf["unasked"].values())]

    def conflicts(self) -> list[Conflict]:
        """Return the answers that contradict each other."""
        return [_conflict(found) for found in self._bpf["conflicts"].values()]

    def limits(self) -> Limits:
        """Return the numbers of what exceeded the bounds of the programs."""
        counters = self._bpf["counters"]
        return Limits(*(int(counters[ctypes.c_int(which)].value) for which in range(len(Limits.__struct_fields__))))

    def guide(self, asker: int) -> None:
        """Learn the interfaces of the routes to the resolvers from what a socket in the cgroup sends to them."""
        askers = self._bcc.lib.bpf_table_fd(self._bpf.module, b"askers")  # whose type bcc has no class for
        if self._bcc.lib.bpf_update_elem(askers, asker.to_bytes(4, "little"), _GUIDES, _ANY):
            raise OSError("a socket cannot be marked")

    def end(self) -> None:
        """End the work of the rules, as the end of this process does."""
        for hook in (*_HOOKS, "egress"):
            self._bcc.lib.bpf_delete_elem(self._map(f"deciding_{hook}"), _NONE)

    def _note_first(self, _context: Any, data: int, size: int) -> None:
        self._firsts.append(ctypes.string_at(data, size))

    def _note_ending(self, _context: Any, data: int, size: int) -> None:
        if self._endings is not None:
            self._endings.note(ctypes.string_at(data, size))

    def _first(self, data: bytes) -> Attempt:
        question, key = int.from_bytes(data[:8], "little"), data[8:]
        if question:
            return _question(self._bpf["unasked"][ctypes.c_uint64(question)])
        return _attempt(self._bpf["refused"].Key.from_buffer_copy(key), 1)

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

    def _attach(self, cgroup: Path) -> None:
        """Attach the programs: those on DNS by links, the others for as long as the cgroup or a socket of it exists."""
        folder = os.open(cgroup, os.O_RDONLY | os.O_CLOEXEC)
        try:
            reader, _ = self._load("on_message", *_INGRESS)
            finder, where = self._load("on_ingress", *_INGRESS)
            self._put("reading", _NONE, reader.to_bytes(4, "little"))
            self._put("finding", _NONE, finder.to_bytes(4, "little"))
            contester, _ = self._load("on_conflict", *_INGRESS)
            self._put("contesting", _NONE, contester.to_bytes(4, "little"))
            link_cgroup(finder, folder, where)
            noter, _ = self._load("on_question", *_EGRESS)
            self._put("noting", _NONE, noter.to_bytes(4, "little"))
            self._leave_attached("on_route", folder, *_EGRESS)
            if self._endings is not None:
                for table, function in {"requesting": "on_request", "judging": "on_stated"}.items():
                    program, _ = self._load(function, *_EGRESS)
                    self._put(table, _NONE, program.to_bytes(4, "little"))
                self._leave_attached("on_name", folder, *_EGRESS)
            for hook, (kind, attach_type) in {"egress": _EGRESS, **_HOOKS}.items():
                decider, _ = self._load(f"on_{hook}", kind, attach_type)
                self._put(f"deciding_{hook}", _NONE, decider.to_bytes(4, "little"))
                self._leave_attached(f"guard_{hook}", folder, kind, attach_type)
        finally:
            os.close(folder)

    def _leave_attached(self, function: str, folder: int, kind: str, attach_type: str) -> None:
        program, where = self._load(function, kind, attach_type)
        if failed := self._bcc.lib.bpf_prog_attach(program, folder, where, _ALLOW_MULTI):
            raise OSError(f"{function}: {os.strerror(-failed)}")

    def _load(self, function: str, program: str, attach_type: str) -> tuple[int, int]:
        where = getattr(self._bcc.BPFAttachType, attach_type)
        loaded = self._bpf.load_func(function, getattr(self._bcc.BPFProgType, program), attach_type=where)
        return int(loaded.fd), int(where)

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        if self._bcc.lib.bpf_update_elem(self._map(table), key, value, _ANY):
            raise OSError(f"the map {table} is full")

    def _map(self, table: str) -> int:
        return int(self._bpf[table].map_fd)


def _text(home: NetworkNamespace, switches: dict[str, bool]) -> str:
    """Return the text of the programs, with the bounds, and the network namespace of this process."""
    values = {
        "HOME": f"{home.cookie}ULL",
        **{name: int(value) for name, value in switches.items()},
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
        "SHOWN": _SHOWN,
        "SEED": f"{secrets.randbits(64)}ULL",
    }
    texts = [f"#define {name} {value}" for name, value in values.items()]
    return "\n".join([*texts, *(part.read_text(encoding="utf-8") for part in _PARTS)])


def _attempt(key: Any, times: int) -> Attempt:
    action = ACTIONS[key.action]
    return Attempt(
        action=action,
        address="" if action == SOCKET else _address(key),
        port=key.port,
        transport=transport_of(key.protocol, key.type),
        pid=key.pid,
        name=key.comm.decode(errors="backslashreplace"),
        times=times,
    )


def _question(found: Any) -> Attempt:
    reason = REASONS[found.reason]
    is_stated = reason in (UNSTATED, OTHER)
    return Attempt(
        action=STATE if is_stated else ASK,
        address=_address(found.peer),
        port=found.kind if is_stated else DNS,
        transport=transport_of(found.protocol, 0),
        pid=found.pid,
        name=found.comm.decode(errors="backslashreplace"),
        times=found.times,
        asked=_name(found.name),
        type=TYPES.get(found.kind, f"TYPE{found.kind}") if found.kind and not is_stated else "",
        reason=reason,
    )


def _name(backwards: Any) -> str:
    """Return a name of `struct suffix`, whose last byte comes first."""
    text = bytes(backwards).partition(b"\0")[0][::-1].removeprefix(b".")
    return text.decode("ascii", errors="backslashreplace")


def _conflict(found: Any) -> Conflict:
    sides = [
        [_address(found.addresses[side * _SHOWN + place]) for place in range(min(found.counts[side], _SHOWN))]
        for side in (0, 1)
    ]
    return Conflict(
        name=_name(found.name),
        believed=sides[0],
        surplus=sides[1],
        more=sum(found.counts) - sum(map(len, sides)),
    )


def _address(found: Any) -> str:
    packed = bytes(found.words)[: 4 if found.family == 4 else 16]  # noqa: PLR2004 - the family as the programs write it
    return str(ip_address(packed))
