"""Logs: structlog on stderr, as text on a terminal, else as JSON lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a module that is imported when it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


@contextmanager
def _replaced(module: str, instead: ModuleType | None) -> Iterator[None]:
    """Let imports find another module, also if the module is loaded already; with None they fail."""
    modules: dict[str, object] = vars(sys)["modules"]
    loaded = modules.get(module)
    modules[module] = instead
    yield
    del modules[module]
    if loaded is not None:
        modules[module] = loaded


# structlog would load them to print exceptions in colours, and to log from coroutines: a third of the start of a worker
with _replaced("rich", None), _replaced("asyncio", _Later("asyncio")):
    import structlog

get_logger = structlog.get_logger  # for modules that would import structlog before this one


def configure(worker: str, level: str = "info") -> None:
    """Set up logging for this process; every line names the worker."""
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if not terminal else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(worker=worker)
