"""Logs: structlog on stderr, as text on a terminal, else as JSON lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Hide a module from imports, also if it is loaded already."""
    modules: dict[str, object] = vars(sys)["modules"]
    loaded = modules.get(module)
    modules[module] = None  # an import fails
    yield
    del modules[module]
    if loaded is not None:
        modules[module] = loaded


with _without("rich"):  # structlog would load it to print exceptions in colours: a fifth of the start of a worker
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
