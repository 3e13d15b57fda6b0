"""Spellings of options that go away with the next release. Each still works, hidden, with a warning on stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., object])
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)  # the command line, and the settings file


def retired_option(spelling: str, instead: str, *name: str, **settings: Any) -> Callable[[F], F]:
    """Return a hidden option whose use prints a warning, which names what to use instead. `name` is its parameter."""

    def warn(ctx: click.Context, param: click.Parameter, value: object) -> object:
        if ctx.get_parameter_source(str(param.name)) in _GIVEN:
            click.echo(f"dnstrail: {spelling} goes away with the next release: use {instead}", err=True)
        return value

    return click.option(spelling, *name, hidden=True, callback=warn, **settings)
