"""The gate: the sockets of a worker that other users or other hosts can reach, and the relay process behind them."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
import time
import traceback
import warnings
from collections import defaultdict
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NoReturn

from dnstrail.bus.relay import ANY, Allowance, Relay, Way
from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail.kernel.libc import call
from dnstrail.log_pause import LogPause
from dnstrail.users import service_ids

_BACKLOG = 1024  # connections that wait to be accepted
_REPORT = 1 << 16  # bytes of one report at most
_AGAIN = 0.1  # seconds until a relay that ended is started again
_END = 5.0  # seconds for the relay to deliver the last bytes
_FAILURE = 1000  # characters of the reason for which a relay ended
_PR_SET_NAME = 15


class Gate:
    """The ways of one worker through its relay. The relay starts with the first way, and again if it ends.

    It is a fork: another user may not be able to read the files of this Python. `relay` is its process id; 0 before it
    starts.
    """

    def __init__(self) -> None:
        self._refused = defaultdict[int, LogPause](LogPause)
        self._ways: dict[int, tuple[Way, socket.socket]] = {}
        self._numbers = count(1)
        self._control: socket.socket | None = None
        self.relay = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def open(self, listener: socket.socket, target: str, allowance: Allowance = ANY) -> int:
        """Lead the clients of a bound socket to a target (see Way), and return the number of this way."""
        listener.listen(_BACKLOG)
        way = Way(next(self._numbers), target, allowance)
        with self._lock:
            self._ways[way.number] = way, listener
            if self._control is None:
                self._start()
            else:
                self._order(way, listener)
        return way.number

    def close_way(self, number: int) -> None:
        """Accept no further client on a way. Those that are connected stay until the worker closes its socket."""
        with self._lock:
            _, listener = self._ways.pop(number)
            listener.close()
            if self._control is not None:
                with suppress(OSError):  # the relay has ended, too
                    self._control.send(json.dumps(number).encode())

    def permit(self, number: int) -> None:
        """Let the publisher of a way go on: the worker has received its messages."""
        control = self._control
        if control is not None:
            with suppress(OSError):  # it has ended, or will read the next order
                control.send(json.dumps([number]).encode(), socket.MSG_DONTWAIT)

    def refused(self, number: int) -> int:
        """Return the number of connections of a way that were refused or cut off."""
        return self._refused[number].count

    def close(self) -> None:
        """End the relay, once it has delivered what this worker sent."""
        with self._lock:
            control, self._control = self._control, None
            for _, listener in self._ways.values():
                listener.close()
            self._ways.clear()
        if control is None:
            return
        control.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(_END)
        control.close()

    def _start(self) -> None:
        """Start a relay with all ways."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        exempt = service_ids()
        with warnings.catch_warnings():  # the child uses no thread and no lock of this process
            warnings.simplefilter("ignore", DeprecationWarning)
            self.relay = os.fork()
        if not self.relay:
            _relay(theirs, exempt)
        theirs.close()
        for way, listener in self._ways.values():
            self._order(way, listener)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="gate", daemon=True)
            self._thread.start()

    def _order(self, way: Way, listener: socket.socket) -> None:
        if self._control is not None:
            with suppress(OSError):  # the relay has ended: the next one receives all ways
                socket.send_fds(self._control, [json.dumps(way).encode()], [listener.fileno()])

    def _watch(self) -> None:
        """Receive the reports of the relay, and start another one if it ends before the worker does."""
        failure = ""
        while (control := self._control) is not None:
            try:
                report = control.recv(_REPORT)
            except OSError:
                report = b""
            if report:
                if isinstance(read := json.loads(report), str):
                    failure = read
                else:
                    self._note(read)
                continue
            with suppress(ChildProcessError):
                os.waitpid(self.relay, 0)
            if self._control is None:
                return
            _log("relay_ended", failure=failure)
            failure = ""
            time.sleep(_AGAIN)
            with self._lock:
                if self._control is not None:
                    control.close()
                    self._start()

    def _note(self, report: list[tuple[int, str, str, int]]) -> None:
        for number, owner, reason, refused in report:
            if self._refused[number].note(time.monotonic(), refused):
                _log("client_refused", client=owner, reason=reason, refused=self.refused(number))


def _relay(control: socket.socket, exempt: frozenset[int]) -> NoReturn:
    """Be the relay, without any capability. It ends with the worker alone, and outlives it for a moment."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        call("prctl", _PR_SET_NAME, b"dnstrail-relay", 0, 0, 0)
        keep_capabilities()
        _close_all_but(control.fileno())
        gc.freeze()
        gc.enable()
        Relay(control, exempt).run()
        status = 0
    except Exception as error:  # noqa: BLE001 - the worker reports it
        with suppress(OSError):
            control.send(json.dumps(_place_of(error)).encode(), socket.MSG_DONTWAIT)
    finally:
        os._exit(status)


def _place_of(error: Exception) -> str:
    """Return what failed, and where."""
    [*_, last] = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} (line {last.lineno} of {last.filename})"[:_FAILURE]


def _close_all_but(kept: int) -> None:
    """Close the descriptors of the worker: its locks must end with it."""
    most = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    os.closerange(3, kept)
    os.closerange(kept + 1, most + 1)


def _log(event: str, **values: object) -> None:
    import structlog  # noqa: PLC0415 - it takes 0.1 s, and lookups do without

    with suppress(OSError):
        structlog.get_logger().warning(event, **values)
