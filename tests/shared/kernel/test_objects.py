"""Tests of dnstrail.kernel.compiler, dnstrail.kernel.compiler_child."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.bpf import AttachType, MapShape, ProgramType, look_up, update
from dnstrail.kernel.objects import COMPILER, BpfObject, LoadedObject, compile_object, with_maps
from live.namespaces import live_or_skip
from live.processes import children_of, text_of, wait_until

TEXT = """
BPF_HASH(first, u64, u32, 7);
BPF_ARRAY(second, u64, 1);
int passes(struct __sk_buff *skb) { u64 key = 5; u32 *found = first.lookup(&key); return found ? 1 : 0; }
int counts(struct __sk_buff *skb) { int key = 0; u64 *found = second.lookup(&key); if (found) *found += 1; return 1; }
"""
EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)
ARRAY = MapShape(2, 4, 8, 1, 0)
COMPILE = f"""
import sys
from dnstrail.kernel.objects import compile_object
compile_object({TEXT!r})
"""


def wide(name: int, source: int = 1) -> bytes:
    """Return a load of 64 bits: of the address of a map, unless its source is another one."""
    return struct.pack("=BBhiBBhi", 0x18, source << 4 | 1, 0, name, 0, 0, 0, 0)


INSTRUCTIONS = st.one_of(
    st.tuples(st.just("map"), st.integers(0, 9)),
    st.tuples(st.just("number"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("other"), st.binary(min_size=8, max_size=8).filter(lambda code: code[0] != 0x18)),
)


@given(st.lists(INSTRUCTIONS))
def test_only_names_of_maps_change(instructions):
    """A name of a map is exchanged, and nothing else: neither a number of 64 bits nor another instruction."""

    def code(shift: int) -> bytes:
        built = {"map": lambda name: wide(name + shift), "number": lambda value: wide(value, 0), "other": bytes}
        return b"".join(built[kind](value) for kind, value in instructions)

    there, back = {name: name + 100 for name in range(10)}, {name + 100: name for name in range(10)}
    assert with_maps(code(0), there) == code(100)
    assert with_maps(code(100), back) == code(0)


def test_a_program_with_an_unknown_map_is_refused():
    """A place without a map is no descriptor of this process."""
    with pytest.raises(OSError, match="unknown map: 3"):
        with_maps(wide(3), {0: 7})


@pytest.fixture(scope="module")
def compiled() -> BpfObject:
    """Return the compiled text."""
    live_or_skip()
    return compile_object(TEXT)


@pytest.fixture
def loaded(compiled) -> Iterator[LoadedObject]:
    """Yield the maps of the text in the kernel."""
    maps = LoadedObject(compiled)
    yield maps
    maps.close()


def open_files() -> list[str]:
    """Return the open files of this process that belong to the kernel's BPF."""
    links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [target for target in (str(path.readlink()) for path in links) if "bpf" in target]


def test_an_object_has_the_maps_and_programs_of_its_text(compiled):
    """The shapes of the maps are those of the text, and the programs are loaded with these maps."""
    assert compiled.maps == {"first": MapShape(1, 8, 4, 7, 0), "second": ARRAY}
    assert set(compiled.programs) == {"passes", "counts"}


def test_programs_use_the_maps_of_their_process(loaded):
    """Each loaded program names the maps that it uses; the kernel keeps what is written into them."""
    for name in ("passes", "counts"):
        descriptor = loaded.load(name, ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS)
        assert f"prog_type:\t{ProgramType.CGROUP_SKB.value}\n" in text_of(Path(f"/proc/self/fdinfo/{descriptor}"))
    update(loaded.maps["first"], bytes(8), b"four")
    assert look_up(loaded.maps["first"], bytes(8), 4) == b"four"
    with pytest.raises(FileNotFoundError):
        look_up(loaded.maps["first"], b"\1" * 8, 4)


def test_a_refused_program_has_the_reason_of_the_kernel():
    """The error contains the words of the verifier."""
    live_or_skip()
    refused = LoadedObject(BpfObject({}, {"bad": EXIT}))
    with pytest.raises(OSError, match="R0 !read_ok"):
        refused.load("bad", ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS)


def test_a_refused_map_leaves_none():
    """If the kernel refuses one map, the others are given up."""
    live_or_skip()
    before = open_files()
    with pytest.raises(OSError, match="BPF_MAP_CREATE"):
        LoadedObject(BpfObject({"good": ARRAY, "bad": MapShape(9999, 4, 8, 1, 0)}, {}))
    assert open_files() == before


def test_a_text_that_does_not_compile_is_refused(capfd):
    """The error states that bcc failed, and bcc itself why."""
    live_or_skip()
    with pytest.raises(SourceUnavailable, match="do not compile"):
        compile_object("int broken(")
    assert "error:" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -9 $$", "ended with -9"),
        ("echo no reason; exit 1", "no reason"),
        ("exit 3", "ended with 3"),
        ("echo junk", "ended with 0"),
        ("printf '\\202'", "ended with 0"),
    ],
)
def test_a_compiler_that_yields_no_object(script, reason):
    """A killed child, a failed one, and one that writes something else are errors."""
    with pytest.raises(SourceUnavailable, match=reason):
        compile_object(TEXT, ("sh", "-c", f"cat >/dev/null; {script}"))


def compilers_of(pid: int) -> list[int]:
    """Return the compilers that a process has started."""
    return [child for child in children_of(pid) if COMPILER[-1] in text_of(Path(f"/proc/{child}/cmdline"))]


def test_a_killed_compiler_is_an_error_and_leaves_nothing():
    """After kill -9 of the child the parent has no object, and holds nothing of it."""
    live_or_skip()
    before = open_files()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(compile_object, TEXT)
        wait_until(lambda: compilers_of(os.getpid()), "the compiler")
        os.kill(compilers_of(os.getpid())[0], signal.SIGKILL)
        with pytest.raises(SourceUnavailable, match="ended with -9"):
            found.result()
    assert open_files() == before


def test_a_compiler_ends_after_its_parent():
    """After kill -9 of the parent the child ends by itself, and with it its maps."""
    live_or_skip()
    with subprocess.Popen([sys.executable, "-P", "-c", COMPILE]) as parent:
        wait_until(lambda: compilers_of(parent.pid), "the compiler")
        (child,) = compilers_of(parent.pid)
        parent.kill()
    wait_until(lambda: COMPILER[-1] not in text_of(Path(f"/proc/{child}/cmdline")), "the end of the compiler")


def test_an_object_survives_its_encoding(compiled):
    """What is kept is what was compiled."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(compiled), type=BpfObject) == compiled
