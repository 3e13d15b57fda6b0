"""The settings file: TOML with a table for each command, signature and rule (docs/reference/settings.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_trusted

DEFAULT = Path("/etc/dnstrail/dnstrail.toml")
FLEET_SIGNATURES = Path("/etc/dnstrail/fleet-signatures.toml")  # of signatures that differ from those of a host
NO_FILE = "none"  # the value of `--config` that reads no file
SIGNATURE = "signature"  # the table that holds a table for each signature
WATCH = "watch"  # the array of rules `[[watch]]`
FLEET = "fleet"  # the table with the addresses of hosts
TABLES = ("dnstrail", "replay", "probe", "cache", "signatures", "history", "web", SIGNATURE)
_KIND = "settings file"
_NO_SETTINGS = {"config", "help", "version", "check", "json", "names", "list", "new"}  # each acts in one run alone
_GIVEN = "dnstrail.config"  # in the context: the file that an outer command was given
_LONGEST = 100  # characters of a wrong key that are compared and shown
F = TypeVar("F", bound=Callable[..., object])


class ConfigFile(NamedTuple):
    """A settings file that was read: its path, None if there is none, its tables, and the value of `--config`."""

    path: Path | None = None
    tables: Mapping[str, Any] = {}
    given: str | None = None

    @property
    def argument(self) -> str:
        """The value of `--config` that makes another process read the same file."""
        return NO_FILE if self.path is None else str(self.path)

    def again(self) -> ConfigFile:
        """Return the file as it is now.

        Raises:
            SettingsError: as `read_config` does; a file that was used must still exist.
        """
        return find_config(self.given) if self.path is None else read_config(self.path)

    def table(self, *names: str) -> dict[str, Any]:
        """Return a table, {} if the file does not have it.

        Raises:
            SettingsError: the value of this name is no table.
        """
        found: Any = self.tables
        for depth, name in enumerate(names, 1):
            found = found.get(name, {})
            if not isinstance(found, dict):
                raise self.refusal(".".join(names[:depth]), "must be a table")
        return dict(found)

    def array(self, name: str) -> list[dict[str, Any]]:
        """Return the tables `[[name]]`, [] if the file has none.

        Raises:
            SettingsError: the value of this name is no array of tables.
        """
        found = self.tables.get(name, [])
        if not (isinstance(found, list) and all(isinstance(table, dict) for table in found)):
            raise self.refusal(name, f"must be tables [[{name}]]")
        return found

    def refusal(self, key: str, reason: str) -> SettingsError:
        """Return the error for the value of a key."""
        return SettingsError(f"{_KIND} {self.path}: {key}: {reason}")

    def unknown(self, key: str, known: Iterable[str], table: str = "") -> SettingsError:
        """Return the error for an unknown key of a table: it names the nearest known one, or all of them."""
        names = {name.lower().replace("_", "-"): name for name in known}
        nearest = get_close_matches(key[:_LONGEST].lower().replace("_", "-"), names, 1)
        remedy = f"did you mean {names[nearest[0]]}?" if nearest else f"known: {', '.join(names.values())}"
        where = f"unknown key in [{table}]" if table else "unknown table"
        return self.refusal(key[:_LONGEST], f"{where}: {remedy}")


def read_config(path: Path) -> ConfigFile:
    """Return a settings file.

    Raises:
        SettingsError: the file cannot be read, others may write it, it is no TOML, or it has an unknown table.
    """
    return _parse(path, read_trusted(path, _KIND))


def find_config(given: str | None, default: Path = DEFAULT) -> ConfigFile:
    """Return the settings file that `--config` names, else the default one; an unusable default one is left out.

    Raises:
        SettingsError: as `read_config` does.
    """
    if given == NO_FILE:
        return ConfigFile(given=given)
    if given is not None:
        return read_config(Path(given).absolute())
    try:
        if not default.exists():
            return ConfigFile()
        content = read_trusted(default, _KIND)
    except (SettingsError, OSError) as error:
        click.echo(f"dnstrail: the settings are not used: {error}", err=True)
        return ConfigFile()
    return _parse(default, content)


def given_config(ctx: click.Context) -> ConfigFile:
    """Return the settings file that `dnstrail --config FILE` names, else the default one.

    Raises:
        SettingsError: as `read_config` does.
    """
    return find_config(ctx.meta.get(_GIVEN))


def config_option(table: str, *, expose: bool = False) -> Callable[[F], F]:
    """Add the option `--config` to a command: its other options get their defaults from a table of the file.

    With `expose` the command receives the file as its parameter `config`.
    """

    def load(ctx: click.Context, _param: click.Parameter, value: str | None) -> ConfigFile:
        ctx.meta.setdefault(_GIVEN, value)
        if ctx.resilient_parsing or runs_command(ctx):
            return ConfigFile()
        config = find_config(ctx.meta[_GIVEN] if value is None else value)
        ctx.default_map = defaults(ctx, config, table)
        return config

    return click.option(
        "--config",
        metavar="FILE",
        is_eager=True,
        expose_value=expose,
        callback=load,
        help=f"File of settings; none: no file (default: {DEFAULT} if it exists).",
    )


def defaults(ctx: click.Context, config: ConfigFile, table: str) -> dict[str, Any]:
    """Return the defaults that a table gives to the options of a command, by parameter.

    Raises:
        SettingsError: a key is no option, or the option does not accept its value.
    """
    options = {name: option for option in ctx.command.params if (name := setting_of(option))}
    values = config.table(table)
    for key, value in values.items():
        if key not in options:
            raise config.unknown(key, options, table)
        if reason := _fault(ctx, options[key], value):
            raise config.refusal(f"[{table}] {key}", reason)
    return {str(options[key].name): _text(value) for key, value in values.items()}


def runs_command(ctx: click.Context) -> bool:
    """Return whether the command at hand is a group that runs one of its commands."""
    return isinstance(ctx.command, click.Group) and bool(ctx.meta.get(str(ctx.command.name)))


def _parse(path: Path, content: bytes) -> ConfigFile:
    import tomllib  # noqa: PLC0415 - most runs have no settings file

    try:
        config = ConfigFile(path, tomllib.loads(content.decode()))
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number that is too long, or too deep
        raise SettingsError(f"{_KIND} {path}: {error}") from error
    for name in config.tables:
        if name not in (*TABLES, FLEET, WATCH):
            raise config.unknown(name, (*TABLES, FLEET, WATCH))
        config.array(name) if name == WATCH else config.table(name)
    return config


def setting_of(option: click.Parameter) -> str:
    """Return the key of an option: its long name, or "" for one that a file cannot set."""
    name = max(option.opts, key=len).removeprefix("--") if isinstance(option, click.Option) else ""
    return "" if name in _NO_SETTINGS else name


def _fault(ctx: click.Context, option: click.Parameter, value: object) -> str:
    """Return why an option does not accept a value of the file, or ""."""
    assert isinstance(option, click.Option)  # noqa: S101 - `_setting` names options alone
    if option.is_flag != isinstance(value, bool):
        return "must be true or false" if option.is_flag else "must not be true or false"
    if option.multiple != isinstance(value, list):
        return "must be a list" if option.multiple else "must not be a list"
    if not all(isinstance(each, str | int | float) for each in (value if isinstance(value, list) else [value])):
        return "must be text or a number"
    try:
        option.process_value(ctx, _text(value))
    except click.BadParameter as error:
        return error.message
    except SettingsError as error:
        return str(error)
    return ""


def _text(value: Any) -> Any:
    """Return a value as a command line would give it."""
    if isinstance(value, list):
        return [str(each) for each in value]
    return value if isinstance(value, bool) else str(value)
