from __future__ import annotations

import fcntl
import socket
import stat
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from builders.dnstap_builders import ACCEPT, FINISH, READY, START, STOP, WHOLE, Writer, framed, tap
from dnstrail.errors import BusError, DnstrailError, SourceUnavailable
from dnstrail.process.clock import StreamClock
from dnstrail_probe.registry import is_file, open_source
from dnstrail_probe.source import Captures
from dnstrail_probe.sources.dnstap_socket import ENOUGH, LONG, MOST_WRITERS, PASSES, DnstapSocket
from live.workers import BOUND, FakeClock, short_folder, wait_until

ONE = tap(response_message=b"one", **WHOLE)
TWO = tap(response_message=b"two", **WHOLE)


@contextmanager
def listening(clock: StreamClock | None = None) -> Iterator[DnstapSocket]:
    """Open a source at a socket of its own."""
    with short_folder() as folder:
        source = open_source(f"dnstap:{folder}/run/dnstap.sock", clock=clock)
        try:
            yield source
        finally:
            source.close()


def payloads(source: DnstapSocket, count: int) -> list[bytes]:
    """Read until `count` messages have arrived, and return their payloads."""
    found: Captures = []
    wait_until(lambda: found.extend(source.read(0.01)) or len(found) >= count, f"{count} messages")
    return [event.payload for _, event in found]


def reply_to(source: DnstapSocket, writer: Writer) -> bytes:
    """Read the source, and return the bytes that a writer receives."""
    source.read(0.5)
    return writer.told()


def is_cut_off(writer: Writer) -> bool:
    """Return whether the connection of a writer was closed."""
    try:
        return writer.told() == b""
    except ConnectionError:  # its last bytes were never read
        return True


def test_a_whole_conversation_with_a_resolver():
    """A resolver is answered at its start and its end, and its message is read."""
    with listening() as source:
        writer = Writer(source.path)
        source.read(1)  # it is accepted
        writer.send(READY)
        assert reply_to(source, writer) == ACCEPT
        writer.send(START + framed(ONE))
        assert payloads(source, 1) == [b"one"]
        writer.send(STOP)
        assert reply_to(source, writer) == FINISH
        assert writer.told() == b""
        writer.close()
        assert source.counters == {"packets": 1}


def test_writers_come_and_go():
    """The complete messages of every writer are read, though one breaks off within a frame and another joins late."""
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


SECOND = 10**9
NOW = 1_700_000_000  # of the wall clock at the start, in seconds
STEPS = pytest.mark.parametrize("step", [0, 3600, -3600])


def stamped(seconds: int) -> bytes:
    """Return a message that a resolver stamped with a wall time."""
    return framed(tap("CLIENT_QUERY", query_message=b"one", query_time_sec=seconds))


def stamps(source: DnstapSocket, *frames: bytes) -> list[int]:
    """Write frames, and return the time stamps of their events."""
    writer = Writer(source.path)
    writer.send(START + b"".join(frames))
    found: Captures = []
    wait_until(lambda: found.extend(source.read(0.01)) or len(found) >= len(frames), "the messages")
    writer.close()
    return [event.timestamp for _, event in found]


@STEPS
def test_a_step_of_the_wall_clock_moves_no_message(step):
    """Messages from before and after a step of the wall clock keep their distance, and none counts as ahead."""
    clock = FakeClock(wall=NOW)
    with listening(StreamClock(clock)) as source:
        clock.monotonic_time += 10
        clock.wall_time += 10 + step
        found = stamps(source, stamped(NOW + 5), stamped(NOW + 8 + step))
        assert [stamp - NOW * SECOND for stamp in found] == [5 * SECOND, 8 * SECOND]
        assert source.counters == {"packets": 2}


@STEPS
def test_a_stamp_ahead_of_its_arrival_is_replaced_by_it(step):
    """If a resolver stamps a message with a future time, the message has the time of its arrival, and is counted."""
    clock = FakeClock(wall=NOW)
    with listening(StreamClock(clock)) as source:
        clock.monotonic_time += 10
        clock.wall_time += 10 + step
        later = NOW + 10 + max(step, 0) + 1
        assert stamps(source, stamped(later), stamped((1 << 33) - 1)) == [(NOW + 10) * SECOND] * 2
        assert source.counters == {"packets": 2, "stamp_ahead": 2}


@STEPS
def test_a_message_without_a_stamp_has_the_time_of_its_arrival(step):
    """A message without a time counts at its arrival, which is not ahead of itself."""
    clock = FakeClock(wall=NOW)
    with listening(StreamClock(clock)) as source:
        clock.wall_time += step
        assert stamps(source, framed(tap("CLIENT_QUERY", query_message=b"one"))) == [NOW * SECOND]
        assert source.counters == {"packets": 1}


def test_frames_come_byte_by_byte():
    """A message that arrives in single bytes is read once it is complete."""
    with listening() as source:
        writer = Writer(source.path)
        data = START + framed(ONE)
        for at in range(len(data)):
            assert source.read(0) == []
            writer.send(data[at : at + 1])
        assert payloads(source, 1) == [b"one"]
        writer.close()


def test_a_hostile_writer_harms_itself_alone():
    """A writer that breaks the format is disconnected and counted; its earlier messages count, and others continue."""
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
    """Beyond the bound a writer is refused and counted, the others continue, and a free place is used again."""
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
    """One read takes a bounded part of the waiting bytes, and all of them are read in the end."""
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
        assert largest <= ENOUGH + (1 << 16) // len(framed(ONE)) + 1
        writer.close()


def waiting_in(sender: socket.socket) -> int:
    """Return the bytes that a socket has sent and nobody has received, unix(7)."""
    return int.from_bytes(fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def test_large_messages_are_read_in_one_turn_up_to_a_bound():
    """A read goes on while large messages wait: a resolver whose socket is full drops what it cannot write."""
    large = framed(tap(response_message=bytes(60_000), **WHOLE))
    most = (PASSES << 16) // len(large) + 1
    with listening() as source:
        writer = Writer(source.path)
        writing = Thread(target=writer.socket.sendall, args=(START + large * 2 * most,))
        writing.start()
        wait_until(lambda: waiting_in(writer.socket) > 2 * len(large), "messages that wait")
        found, longest = 0, 0
        while found < 2 * most:
            step = len(source.read(BOUND))
            found, longest = found + step, max(longest, step)
        writing.join()
        writer.close()
    assert 1 < longest <= most


def test_a_read_ends_after_a_bounded_time(monkeypatch):
    """Frames without a message end a read, too: after LONG it makes no further pass, and a pass is 64 KiB in all."""
    clock = FakeClock()
    with listening(StreamClock(clock)) as source:
        writers = []
        for _ in range(MOST_WRITERS):
            writers.append(Writer(source.path))
            source.read(1)
        for writer in writers:
            writer.send(START + framed(*[b"\x08"] * 819))
        receive = source._receive
        monkeypatch.setattr(source, "_receive", lambda *args: (clock.advance(LONG), receive(*args))[1])
        source.read(1)
        assert 0 < source.counters["packets"] <= (1 << 16) // len(framed(b"\x08"))
        wait_until(lambda: not source.read(0) and source.counters["packets"] == MOST_WRITERS * 819, "all frames")
        for writer in writers:
            writer.close()


def test_user_and_group_alone_may_write():
    """The socket has mode 0660 and its folder mode 0750."""
    with listening() as source:
        assert stat.S_IMODE(source.path.stat().st_mode) == 0o660
        assert stat.S_IMODE(source.path.parent.stat().st_mode) == 0o750


def test_a_second_probe_is_refused_and_a_dead_ones_socket_replaced():
    """A path that is served refuses a second source; a stale socket is replaced; close() removes the socket."""
    with short_folder() as folder:
        path = folder / "dnstap.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        source = DnstapSocket(str(path), StreamClock())
        with pytest.raises(BusError, match="another dnstrail serves here"):
            DnstapSocket(str(path), StreamClock())
        Writer(path).close()
        source.close()
        source.close()
        assert not path.exists()


def test_a_file_is_never_replaced():
    """A path that holds anything except a socket is refused, and its content stays."""
    with short_folder() as folder:
        path = folder / "queries.fstrm"
        path.write_bytes(START)
        with pytest.raises(SourceUnavailable, match=f"is no socket: --capture {path} reads a dnstap file"):
            open_source(f"dnstap:{path}")
        assert path.read_bytes() == START


@pytest.mark.parametrize("path", ["/proc/nowhere/x.sock", "/tmp/" + "x" * 120])
def test_a_path_at_which_no_socket_can_be_made(path):
    """A path at which no socket can be made is an error that names the path."""
    with pytest.raises(DnstrailError, match=path[:20]):
        DnstapSocket(path, StreamClock())


def test_words_and_paths_of_capture(monkeypatch):
    """`dnstap` alone is a socket beside the default run-dir; a file of that name is given by its path."""
    with short_folder() as folder:
        monkeypatch.setenv("DNSTRAIL_RUN_DIR", str(folder / "run"))
        source = open_source("dnstap")
        assert (source.path, source.live) == (folder / "run-dnstap" / "dnstap.sock", True)
        source.close()
    assert [is_file(word) for word in ("dnstap", "dnstap:/x", "auto", "./dnstap", "a.fstrm")] == [False] * 3 + [
        True
    ] * 2


def test_descriptors_are_given_back():
    """Opening, connecting and closing leave no descriptor open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with listening() as source:
            writer = Writer(source.path)
            source.read(1)
            writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
