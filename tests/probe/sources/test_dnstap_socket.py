from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from builders.dnstap_builders import ACCEPT, FINISH, READY, START, STOP, WHOLE, Writer, framed, tap
from dnstrail.errors import BusError, DnstrailError, SourceUnavailable
from dnstrail.process.clock import SystemClock
from dnstrail_probe.registry import is_file, open_source
from dnstrail_probe.source import Captures
from dnstrail_probe.sources.dnstap_socket import MOST_WRITERS, DnstapSocket
from live.workers import short_folder, wait_until

ONE = tap(response_message=b"one", **WHOLE)
TWO = tap(response_message=b"two", **WHOLE)


@contextmanager
def listening() -> Iterator[DnstapSocket]:
    """A source at a socket of its own."""
    with short_folder() as folder:
        source = open_source(f"dnstap:{folder}/run/dnstap.sock")
        try:
            yield source
        finally:
            source.close()


def payloads(source: DnstapSocket, count: int) -> list[bytes]:
    """So many messages, waited for."""
    found: Captures = []
    wait_until(lambda: found.extend(source.read(0.01)) or len(found) >= count, f"{count} messages")
    return [event.payload for _, event in found]


def heard(source: DnstapSocket, writer: Writer) -> bytes:
    """What a writer is told, while the source is read."""
    source.read(0.5)
    return writer.told()


def is_cut_off(writer: Writer) -> bool:
    """Whether its connection was closed."""
    try:
        return writer.told() == b""
    except ConnectionError:  # what it wrote last was never read
        return True


def test_a_resolver_is_welcomed_heard_and_sent_off():
    """The handshake of both ways, one message, and the end of it."""
    with listening() as source:
        writer = Writer(source.path)
        source.read(1)  # it is accepted
        writer.send(READY)
        assert heard(source, writer) == ACCEPT
        writer.send(START + framed(ONE))
        assert payloads(source, 1) == [b"one"]
        writer.send(STOP)
        assert heard(source, writer) == FINISH
        assert writer.told() == b""
        writer.close()
        assert source.counters == {"packets": 1}


def test_writers_come_and_go():
    """Several write at once, one breaks off within a frame, another comes: of each what is whole is read."""
    with listening() as source:
        first, second = Writer(source.path), Writer(source.path)
        first.send(START + framed(ONE) + framed(ONE)[:20])
        second.send(START + framed(TWO))
        assert sorted(payloads(source, 2)) == [b"one", b"two"]
        first.close()
        wait_until(lambda: not source.read(0.01) and source.counters["dnstap_cut_short"] == 1, "the broken end")
        third = Writer(source.path)
        third.send(START + framed(ONE))
        second.send(framed(TWO))
        assert sorted(payloads(source, 2)) == [b"one", b"two"]
        second.close()
        third.close()


def test_frames_come_byte_by_byte():
    """A message that comes in single bytes is read once it is whole."""
    with listening() as source:
        writer = Writer(source.path)
        data = START + framed(ONE)
        for at in range(len(data)):
            assert source.read(0) == []
            writer.send(data[at : at + 1])
        assert payloads(source, 1) == [b"one"]
        writer.close()


def test_a_hostile_writer_harms_itself_alone():
    """Who writes no dnstap is cut off and counted; what it wrote before counts, and its neighbour goes on."""
    with listening() as source:
        good, bad = Writer(source.path), Writer(source.path)
        good.send(START + framed(ONE))
        bad.send(START + framed(TWO) + b"\xff" * 64)
        assert sorted(payloads(source, 2)) == [b"one", b"two"]
        assert source.counters["dnstap_bad_stream"] == 1
        assert is_cut_off(bad)
        good.send(framed(b"\xff\xff", ONE))
        assert payloads(source, 1) == [b"one"]
        assert source.counters["dnstap_bad_message"] == 1
        good.close()
        bad.close()


def test_writers_are_bounded():
    """Past the bound a writer is turned away and counted; the others go on, and a place that is left is free."""
    with listening() as source:
        writers = []
        for _ in range(MOST_WRITERS):
            writers.append(Writer(source.path))
            source.read(1)
        refused = Writer(source.path)
        source.read(1)
        assert refused.told() == b""
        assert source.counters["dnstap_too_many_writers"] == 1
        writers[-1].send(START + framed(ONE))
        assert payloads(source, 1) == [b"one"]
        for writer in (*writers, refused):
            writer.close()
        wait_until(lambda: source.read(0.01) or len(source._selector.get_map()) == 1, "the places")
        newcomer = Writer(source.path)
        newcomer.send(START + framed(TWO))
        assert payloads(source, 1) == [b"two"]
        newcomer.close()


def test_many_frames_are_read_in_bounded_steps():
    """However much waits, one read takes a bounded part of it, and all of it is read in the end."""
    with listening() as source:
        writer = Writer(source.path)
        writer.socket.setblocking(False)
        waiting = START + framed(*[ONE] * 5000)
        found, largest = 0, 0
        while found < 5000:
            if waiting:
                with suppress(BlockingIOError):
                    waiting = waiting[writer.socket.send(waiting) :]
            step = len(source.read(0.1))
            found, largest = found + step, max(largest, step)
        assert found == 5000
        assert largest <= (1 << 16) // len(framed(ONE)) + 1
        writer.close()


def test_user_and_group_alone_may_write():
    """The socket is 0660 and its folder closed to others, as all our sockets."""
    with listening() as source:
        assert stat.S_IMODE(source.path.stat().st_mode) == 0o660
        assert stat.S_IMODE(source.path.parent.stat().st_mode) == 0o750


def test_a_second_probe_is_refused_and_a_dead_ones_socket_replaced():
    """While one serves a path another is told so; what a killed one left is taken over; a closed one leaves nothing."""
    with short_folder() as folder:
        path = folder / "dnstap.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        source = DnstapSocket(str(path), SystemClock())
        with pytest.raises(BusError, match="another dnstrail serves here"):
            DnstapSocket(str(path), SystemClock())
        Writer(path).close()
        source.close()
        source.close()
        assert not path.exists()


def test_a_file_is_never_replaced():
    """A path under which there is anything but a socket is refused, and what lies there stays."""
    with short_folder() as folder:
        path = folder / "queries.fstrm"
        path.write_bytes(START)
        with pytest.raises(SourceUnavailable, match=f"is no socket: --capture {path} reads a dnstap file"):
            open_source(f"dnstap:{path}")
        assert path.read_bytes() == START


@pytest.mark.parametrize("path", ["/proc/nowhere/x.sock", "/tmp/" + "x" * 120])
def test_where_no_socket_can_be(path):
    """A place where no socket can be made is one clear error."""
    with pytest.raises(DnstrailError, match=path[:20]):
        DnstapSocket(path, SystemClock())


def test_words_and_paths_of_capture(monkeypatch):
    """`dnstap` alone is the socket beside the others; a file may be called so, too, by its path."""
    with short_folder() as folder:
        monkeypatch.setenv("DNSTRAIL_RUN_DIR", str(folder))
        source = open_source("dnstap")
        assert (source.path, source.live) == (folder / "dnstap.sock", True)
        source.close()
    assert [is_file(word) for word in ("dnstap", "dnstap:/x", "auto", "./dnstap", "a.fstrm")] == [False] * 3 + [
        True
    ] * 2


def test_descriptors_are_given_back():
    """Opening, connecting and closing leaves no descriptor behind."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with listening() as source:
            writer = Writer(source.path)
            source.read(1)
            writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
