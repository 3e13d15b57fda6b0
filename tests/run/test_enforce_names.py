"""How the programs of --enforce read the name of a question, in the kernel, over packets made up for them.

Tests of dnstrail_run.enforce.hooks.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dnstrail.kernel.bpf import AttachType, ProgramType, look_up
from dnstrail.kernel.libc import system_call
from dnstrail.kernel.objects import LoadedObject, compile_object
from dnstrail_run.enforce import hooks
from dnstrail_run.enforce.rules import _name_key
from live.namespaces import live_or_skip

HEADER = 12
PROGRAM = """
struct found { u32 bytes; struct suffix name; };
BPF_ARRAY(read, struct found, 1);
int read_one(struct __sk_buff *skb)
{
    u32 none = 0;
    struct found *found = read.lookup(&none);
    if (found) {
        found->name.length = TEXT * 8;
        found->bytes = read_suffix(skb, HEADER, &found->name);
    }
    return 1;
}
"""
_BPF, _TEST_RUN = 321, 10  # x86-64
_ETHERNET = bytes(12) + b"\x88\xb5"  # a type for experiments
SUFFIX = 4 + 256  # bytes of `struct suffix`


class Reader:
    """The program that reads names."""

    def __init__(self) -> None:
        questions = hooks.program_text().partition("// What leaves the sockets that ask a resolver")[0]
        self._loaded = LoadedObject(compile_object(questions + PROGRAM))
        self._program = self._loaded.load("read_one", ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS)

    def read(self, name: bytes) -> tuple[int, bytes]:
        """Return the bytes that the program reads of a message with this name, and the suffix that it makes of it."""
        packet = ctypes.create_string_buffer(_ETHERNET + os.urandom(HEADER) + name)
        attributes = struct.pack("=4I2Q", self._program, 0, len(packet) - 1, 0, ctypes.addressof(packet), 0)
        system_call("BPF_PROG_TEST_RUN", _BPF, _TEST_RUN, ctypes.create_string_buffer(attributes, 80), 80)
        found = look_up(self._loaded.maps["read"], bytes(4), 4 + SUFFIX)
        return int.from_bytes(found[:4], "little"), found[4:]

    def close(self) -> None:
        """Give up the program."""
        self._loaded.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """Yield the program in the kernel."""
    live_or_skip()
    made = Reader()
    yield made
    made.close()


def wire(labels: list[bytes]) -> bytes:
    """Return a name as in a message."""
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


LETTERS = st.binary(min_size=1, max_size=63) | st.text("aZ.09-_", min_size=1, max_size=63).map(str.encode)
LABEL = LETTERS | st.sampled_from([b"x" * 46, b"X" * 45, b"9" * 63, b"a.b", b"a\0b", b"["])


@given(labels=st.lists(LABEL, min_size=1, max_size=6), behind=st.binary(max_size=40))
@example(labels=[b"x" * 46, b"test"], behind=b"")
@example(labels=[b"a", b"x" * 46, b"y" * 46], behind=b"")
@example(labels=[b"a.test"], behind=b"")
@example(labels=[b"a"] * 127, behind=b"")
@example(labels=[b"a"] * 126 + [b"ab"], behind=b"")
@example(labels=[b"x" * 63] * 3 + [b"y" * 61], behind=b"")
@example(labels=[b"x" * 63] * 3 + [b"y" * 62], behind=b"")
@example(labels=[b"aB3-_"], behind=b"\0" * 9)
def test_a_name_is_read_as_the_list_has_it(reader, labels, behind):
    """A name has the key of its entry, in lower case; one with a dot or a zero in a label, or too long, has none."""
    name = wire(labels)
    length, key = reader.read(name + behind)
    if len(name) > 255 or any(set(label) & set(b".\0") for label in labels):
        assert length == 0
        return
    lowered = b".".join(labels).lower()  # bytes: of ASCII alone
    assert length == len(name)
    assert key[4:] == lowered[::-1].ljust(256, b"\0")
    if lowered.isascii():
        assert key.startswith(_name_key(lowered.decode(), below=False)[4:].rstrip(b"\0"), 4)


@pytest.mark.parametrize(
    "name", [b"\0", b"", b"\1", b"\xc0\x0c", b"\1a\xc0\x0c", b"\x40" + b"a" * 64 + b"\0", b"\5abc"]
)
def test_what_is_no_name_of_a_list_is_not_read(reader, name):
    """The root, a cut name, a pointer and an unknown kind of label lead to no entry."""
    assert reader.read(name)[0] == 0
