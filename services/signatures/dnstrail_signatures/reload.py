"""The reload on SIGHUP: settings and signatures are read and started in a thread, while events are handled."""

from __future__ import annotations

import threading
import tomllib  # noqa: F401 - reads the settings, when the user of the worker may not be able to read this module
from collections.abc import Callable
from typing import NamedTuple

import structlog

from dnstrail.errors import SettingsError
from dnstrail_signatures.engine.engine import Engine, Prepared
from dnstrail_signatures.loading.chosen import Chosen

Reload = tuple[threading.Event, Callable[[], Chosen]]  # the request, and how to choose the signatures anew


class Reloaded(NamedTuple):
    """What the worker goes on with."""

    chosen: Chosen
    prepared: Prepared


class Reloader:
    """Reloads when `requested` is set. If anything new is wrong, the old stays whole, and one line states why.

    `refused` is the reason of the last reload, "" if it was accepted.

    The thread may hang with the file system of a signature. The worker then goes on with the old.
    """

    def __init__(self, requested: threading.Event, choose: Callable[[], Chosen], engine: Engine) -> None:
        self._requested = requested
        self._choose = choose
        self._engine = engine
        self._thread: threading.Thread | None = None
        self._ready: Reloaded | None = None
        self.refused = ""

    def step(self) -> Reloaded | None:
        """Begin a reload that was requested; return what one has led to, None while there is nothing new."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            ready, self._ready = self._ready, None
            return ready
        if self._requested.is_set():
            self._requested.clear()
            self._thread = threading.Thread(target=self._reload, name="reload", daemon=True)
            self._thread.start()
        return None

    def _reload(self) -> None:
        try:
            chosen = self._choose()
            self._ready = Reloaded(chosen, self._engine.prepare(chosen.classes, chosen.settings, chosen.asked))
        except SettingsError as error:
            self._refuse(str(error))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the old stays
            self._refuse(f"{type(error).__name__}: {error}")
        else:
            self.refused = ""

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        structlog.get_logger().error("reload_refused", reason=reason)
