"""The programs of --enforce: loaded from what an earlier start compiled, with structures that Python reads.

Tests of dnstrail_run.enforce.structures.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dnstrail import kept_objects
from dnstrail.kernel.bpf import look_up
from dnstrail.kernel.objects import BpfObject, compile_object
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.cgroup import CommandCgroup, make_cgroup
from dnstrail_run.enforce.hooks import Enforcement, program_text
from dnstrail_run.enforce.refusals import Limits
from dnstrail_run.enforce.rules import rules_of
from dnstrail_run.enforce.structures import (
    GUIDES,
    START,
    ConflictValue,
    FirstRecord,
    RefusalKey,
    UnaskedValue,
    WaitingValue,
    conflict_of,
    question_of,
)
from dnstrail_run.namespaces import own_namespace
from live.namespaces import live_or_skip


@pytest.fixture
def cgroup() -> Iterator[CommandCgroup]:
    """Make a cgroup without processes."""
    live_or_skip()
    made = make_cgroup()
    yield made
    made.remove()


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> list[BpfObject]:
    """Keep the objects in an empty folder; return those that were compiled since."""
    found: list[BpfObject] = []

    def compiling(text: str) -> BpfObject:
        found.append(compile_object(text))
        return found[-1]

    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "programs"))
    monkeypatch.setattr(kept_objects, "compile_object", compiling)
    return found


def enforcement(
    cgroup: CommandCgroup,
    *,
    allow_afterwards: bool = False,
    any_question: bool = False,
    ask: bool = False,
    check_server_name: bool = False,
) -> Enforcement:
    rules = rules_of(parse_allow_list("a.test\n", Path("allowed"), lambda _: ""))
    namespaces = [own_namespace()]
    return Enforcement(
        cgroup.path,
        rules,
        namespaces,
        allow_afterwards=allow_afterwards,
        any_question=any_question,
        ask=ask,
        check_server_name=check_server_name,
    )


def test_a_later_start_compiles_nothing(cgroup, compiled):
    """Whatever its settings, a start uses the object of the first one, and does not load bcc."""
    loaded_before = set(sys.modules)
    seeds = set()
    names = ("allow_afterwards", "any_question", "ask", "check_server_name")
    for given in ((), *((name,) for name in names)):
        made = enforcement(cgroup, **dict.fromkeys(given, True))
        home, seed, *flags = START.unpack(look_up(made._maps["starts"], bytes(4), START.size))
        assert (home, flags) == (own_namespace().cookie, [name in given for name in names])
        assert made.limits() == Limits()
        assert [made.attempts(), made.conflicts(), made.firsts()] == [[], [], []]
        made.end()
        made.end()  # as a launcher does whose parent ended before
        made.close()
        seeds.add(seed)
    assert len(compiled) == 1
    assert len(seeds) == 5
    assert not {"bcc", "dnstrail_probe"} & (set(sys.modules) - loaded_before)


def test_the_structures_have_the_sizes_of_the_programs(compiled):
    """Keys and values of the maps are as long as Python takes them."""
    live_or_skip()
    maps = kept_objects.load_kept(program_text(), None, lambda made: made).maps
    assert maps["refused"].key_size == ctypes.sizeof(RefusalKey)
    assert maps["unasked"].value_size == ctypes.sizeof(UnaskedValue)
    assert maps["waiting"].value_size == ctypes.sizeof(WaitingValue)
    assert maps["conflicts"].value_size == ctypes.sizeof(ConflictValue)
    assert maps["starts"].value_size == START.size
    assert maps["askers"].value_size == len(GUIDES)
    assert maps["counters"].entries == len(Limits.__struct_fields__)
    assert ctypes.sizeof(FirstRecord) == 16 + ctypes.sizeof(RefusalKey)


def test_a_refused_question_in_words():
    """The name is in order, and addresses have the length of their family."""
    found = UnaskedValue(times=3, pid=7, reason=2, kind=16, protocol=17, comm=b"dig\xff")
    ctypes.memmove(found.name, b"tset.a", 6)
    found.peer.family = 6
    ctypes.memmove(found.peer.words, ip_address("2001:db8::1").packed, 16)
    attempt = question_of(found)
    assert (attempt.asked, attempt.type, attempt.reason) == ("a.test", "TXT", "name")
    assert (attempt.address, attempt.port, attempt.transport) == ("2001:db8::1", 53, "udp")
    assert (attempt.pid, attempt.name, attempt.times) == (7, "dig\\xff", 3)


def test_a_conflict_in_words():
    """The first addresses of each side are named, and the others counted."""
    found = ConflictValue(counts=(1, 10))
    ctypes.memmove(found.name, b"tset.a", 6)
    for place in (0, *range(8, 16)):
        found.addresses[place].family = 4
        ctypes.memmove(found.addresses[place].words, bytes((192, 0, 2, place)), 4)
    conflict = conflict_of(found)
    assert (conflict.name, conflict.believed, conflict.more) == ("a.test", ["192.0.2.0"], 2)
    assert conflict.surplus == [f"192.0.2.{place}" for place in range(8, 16)]
