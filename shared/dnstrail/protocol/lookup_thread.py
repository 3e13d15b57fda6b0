"""A thread that answers lookups at a socket, while the worker does its work."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Final, Generic, TypeVar

from dnstrail.bus import Bus, ServedRequest

_POLL: Final = 0.25  # seconds between two checks of the stop signal, and two calls of `_look`
_PATIENCE: Final = 5.0  # seconds for the lookup at hand

Source = TypeVar("Source")


class LookupThread(ABC, Generic[Source]):
    """Answers lookups from a source, with a bus and a source of its own: both belong to one thread.

    A subclass sets what its methods need before this class begins.
    """

    def __init__(self, make_bus: Callable[[], Bus], address: str, name: str) -> None:
        """Bind the socket, and begin.

        Raises:
            BusError: The address cannot be bound.
        """
        self._make_bus = make_bus
        self._address = address
        self._bound = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._bound.wait()
        self.check()

    def check(self) -> None:
        """Raise what ended the thread, if anything did.

        Raises:
            BusError: The address cannot be bound.
            Exception: A fault of dnstrail.
        """
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread after the lookup at hand."""
        self._stop.set()
        self._thread.join(_PATIENCE)

    @abstractmethod
    def _open(self) -> AbstractContextManager[Source]:
        """Return the source, which ends with its block."""

    @abstractmethod
    def _answer(self, served: ServedRequest, source: Source) -> None: ...

    def _look(self, source: Source) -> None:
        """Follow the changes of the source: nothing, by default."""

    def _run(self) -> None:
        try:
            with closing(self._make_bus()) as bus, self._open() as source:
                server = bus.server(self._address)
                self._bound.set()
                while not self._stop.is_set():
                    bus.wait(server, timeout=_POLL)
                    while (served := server.receive()) is not None and not self._stop.is_set():
                        self._answer(served, source)
                    self._look(source)
        except BaseException as error:  # noqa: BLE001 - the worker raises it
            self._error = error
        finally:
            self._bound.set()
