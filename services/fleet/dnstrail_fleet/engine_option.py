"""The option that names the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from dnstrail_fleet.log.engine_address import FORM, EngineAddress, parse_engine

#: where `dnstrail fleet join` writes the invitation of this host
JOINED: Final = Path("/etc/dnstrail/fleet.json")
_F = TypeVar("_F", bound=Callable[..., Any])


def _convert(_ctx: click.Context, _param: click.Parameter, value: str) -> EngineAddress:
    return parse_engine(value)


def engine_option(help_text: str, default: Path | None = None) -> Callable[[_F], _F]:
    """Return the option; the command receives an EngineAddress as `engine`."""
    return click.option(
        "--engine",
        metavar=f"FILE|{FORM}",
        required=default is None,
        default=None if default is None else str(default),
        show_default=default is not None,
        callback=_convert,
        help=help_text,
    )
