"""Console commands: the options that they share, their exit codes, and the one way in which each of them ends.

Every command imports this module before it knows what it will do. The module therefore imports neither the bus nor a
codec until an option or an error needs one.
"""

from __future__ import annotations

import atexit
import io
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from importlib.machinery import ExtensionFileLoader, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click
from click.core import ParameterSource

from dnstrail.errors import (
    BusError,
    CaptureError,
    DataNotFound,
    DnstrailError,
    KeyNotSupported,
    LookupRefused,
    SettingsError,
    Unavailable,
)
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol import MOST_PROBES, PROBES

if TYPE_CHECKING:
    from dnstrail.users import User

OK = 0  #: exit: found, or ok; also if the reader of stdout ended early
NOT_FOUND = 1  #: exit: not found, or not healthy
USAGE = 2  #: exit: wrong usage, or a missing or bad capture file
NO_CACHE = 3  #: exit: no cache to ask
#: exit: cannot capture or serve: a privilege, a socket or a folder is missing, or a worker of the run died or hung
CANNOT_SERVE = 4
_INTERRUPTED = 130  #: exit: a lookup was interrupted with Ctrl-C, as a shell reports SIGINT
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}  # context settings of every command
_COMPLETION = "_DNSTRAIL_COMPLETE"  # set by the shell that asks for completions
Addresses = TypeVar("Addresses", str | None, tuple[str, ...])
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)  # the command line, and the settings file
NONE = "none"  # the value of `--cache` of a worker that asks no cache
LOG_LEVELS = ("debug", "info", "warning", "error")
_CODES: dict[type[DnstrailError], int] = {
    DataNotFound: NOT_FOUND,
    SettingsError: USAGE,
    CaptureError: USAGE,
    KeyNotSupported: USAGE,
    Unavailable: NO_CACHE,
    LookupRefused: NO_CACHE,
}


def examples(*lines: str) -> str:
    """Return the epilog that ends a command's help: one example on each line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def retired_option(spelling: str, instead: str, *name: str, **settings: Any) -> Callable[[F], F]:
    """Return the hidden option of a spelling that goes away with the next release; `name` is its parameter.

    Its use prints a warning on stderr, which names what to use instead.
    """

    def warn(ctx: click.Context, param: click.Parameter, value: object) -> object:
        if ctx.get_parameter_source(str(param.name)) in _GIVEN:
            click.echo(f"dnstrail: {spelling} goes away with the next release: use {instead}", err=True)
        return value

    return click.option(spelling, *name, hidden=True, callback=warn, **settings)


def default_run_dir() -> Path:
    """Return the folder of the sockets where no option names it."""
    from dnstrail.bus import ipc

    return ipc.default_run_dir()


_run_dir = partial(
    click.option,
    "--run-dir",
    envvar="DNSTRAIL_RUN_DIR",
    type=click.Path(path_type=Path, readable=False),  # the code that opens a socket there reports what is wrong
    help="Folder of the sockets (default: /run/dnstrail for root, else dnstrail in the user's runtime folder).",
)

run_dir_option = _run_dir(default=default_run_dir)


optional_run_dir_option = _run_dir()  # for a command that often does without the folder


def _convert_user(_ctx: click.Context, _param: click.Parameter, value: str | None) -> User | None:
    from dnstrail.users import parse_user

    if value is None:
        return None
    uid, _, gid = value.partition(":")
    user = parse_user(uid, gid)
    if user is None:
        raise click.BadParameter(f"{value!r} is not UID:GID")
    return user


user_option = click.option(
    "--user",
    metavar="UID:GID",
    callback=_convert_user,
    help="As root: switch to this user (default: the owner of the run-dir if it is not root, else `dnstrail`, else an "
    "unused id).",
)


def check_dnscache(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of `--dnscache`, which make settings together.

    Raises:
        SettingsError: an option is unknown, or its value is not accepted.
    """
    from dnstrail.settings import parse_dnscache

    parse_dnscache(values)
    return values


def check_address(_ctx: click.Context, _param: click.Parameter, value: Addresses) -> Addresses:
    """Return the address of an option, or its addresses.

    Raises:
        click.BadParameter: one of them is no address of the bus.
    """
    _check_addresses(value, local=False)
    return value


def check_local_address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return the address of an option that accepts a socket of this host alone.

    Raises:
        click.BadParameter: it is no such address.
    """
    _check_addresses(value, local=True)
    return value


cache_with_facts_option = click.option(
    "--cache",
    metavar="ADDRESS",
    callback=check_local_address,
    help="Address of the cache, with facts.sock beside it (default: lookups.sock in the run-dir).",
)


def _check_addresses(value: str | tuple[str, ...] | None, *, local: bool) -> None:
    for address in (value,) if isinstance(value, str) else value or ():
        from dnstrail.bus import ipc

        try:
            ipc.check_address(address, local=local)
        except BusError as error:
            raise click.BadParameter(f"{address!r}: {error.reason}") from error


def check_number(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Return the value of an option that names a number of a range: click finds NaN in each.

    Raises:
        click.BadParameter: it is NaN.
    """
    if value is not None and math.isnan(value):
        raise click.BadParameter(f"{value} is no number")
    return value


def check_file_path(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Return the path of an option that names a file.

    Raises:
        click.BadParameter: it is empty, which click takes for the current folder.
    """
    if value == Path():
        raise click.BadParameter("'' is no path of a file")
    return value


subscribe_option = click.option(
    "--subscribe",
    multiple=True,
    callback=check_address,
    help="Address of a probe (default: events.sock in the run-dir).",
)

probes_option = click.option(
    "--probes",
    metavar="NUMBER",
    type=click.IntRange(1, MOST_PROBES),
    default=PROBES,
    show_default=True,
    help="Runs of probes that are followed; a further one is refused.",
)
#: variable: least level of the log of each worker: debug, info, warning or error (default: info)
LOG_LEVEL = "DNSTRAIL_LOG_LEVEL"
log_level_option = retired_option(
    "--log-level",
    f"the variable {LOG_LEVEL}",
    envvar=LOG_LEVEL,
    show_envvar=True,
    type=click.Choice(LOG_LEVELS),
    default="info",
)


def worker_cache_option(
    check: Callable[[click.Context, click.Parameter, str | None], str | None], without: str
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Return the option of a worker that names its cache, or that it has none: `check` checks the address.

    The command receives it as `cache`, and as `no_cache` whether it goes `without` a cache.
    """

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        return value if value == NONE else check(ctx, param, value)

    def add(command: Callable[..., T]) -> Callable[..., T]:
        @click.option(
            "--cache",
            metavar="ADDRESS",
            callback=convert,
            help=f"Address of the cache (default: lookups.sock in the run-dir); none: {without}.",
        )
        @retired_option("--no-cache", "--cache none", is_flag=True)
        @wraps(command)
        def with_cache(*args: Any, cache: str | None, no_cache: bool, **others: Any) -> T:
            no_cache = no_cache or cache == NONE
            return command(*args, cache=None if no_cache else cache, no_cache=no_cache, **others)

        return with_cache

    return add


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a command to its end, and exit with its code.

    An error that dnstrail or the system raises becomes one line on stderr. If the reader of stdout has gone, the
    command ends without a word: the reader had enough. A character that the encoding of stdout lacks is escaped there,
    as on stderr.
    """
    _open_closed_streams()
    _prepare_stdout()
    if _COMPLETION in os.environ:
        command.main(prog_name=name)
    try:
        code = _invoke(command, name)
        sys.stdout.flush()  # a full disk is reported here, and not by the interpreter after its last line
    except click.ClickException as error:
        code = _refuse(error)
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except SystemExit as error:  # rich exits by itself when the reader of stdout has gone
        code = _closed() if isinstance(error.__context__, BrokenPipeError) else error.code
    except BrokenPipeError:
        code = _closed()
    except (DnstrailError, OSError) as error:
        code = _report(error)
    except MemoryError:  # a worker must not go on with a part of its state
        with full_stderr_ignored():
            click.echo("Error: no memory is left: the memory limit of this process is too low", err=True)
        code = CANNOT_SERVE
    _end(code)


def _end(code: int | str | None) -> NoReturn:
    """Exit as the interpreter does, but free no objects: that is a fifth of what a short command takes."""
    main = threading.main_thread()
    if isinstance(code, str) or not all(one.daemon or one is main for one in threading.enumerate()):
        sys.exit(code)
    atexit._run_exitfuncs()  # noqa: SLF001 - the interpreter has no other way
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit((code or OK) & 0xFF)


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that the parent closed, so that no other file gets its descriptor."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # each gets the lowest free descriptor
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays open


def _prepare_stdout() -> None:
    """Let stdout escape what its encoding lacks, and give it a buffer, also with PYTHONUNBUFFERED.

    Without a buffer, a stop of this process can cut a write short.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a text stream
    if isinstance(sys.stdout.buffer, io.RawIOBase):
        form = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors}
        sys.stdout = open(sys.stdout.fileno(), "w", buffering=1, closefd=False, **form)  # noqa: SIM115 - stays open


def _invoke(command: click.Command, name: str) -> int | str | None:
    """Run a command without click's own handling of errors, and return its exit code."""
    try:
        with command.make_context(name, sys.argv[1:]) as ctx:
            command.invoke(ctx)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return OK


def _closed() -> int:
    _discard(sys.stdout)
    return OK


def _refuse(error: click.ClickException) -> int:
    """Print what click refuses, and return the exit code for it."""
    error.message = escape_unprintable(error.message)  # type: ignore[misc] # click never changes it
    with full_stderr_ignored():
        error.show()
    return USAGE


def _report(error: DnstrailError | OSError) -> int:
    """Print an error as one line, and return the exit code for it."""
    with full_stderr_ignored():
        click.echo(f"Error: {escape_unprintable(_text(error))}", err=True)
    if isinstance(error, OSError):
        _discard(sys.stdout)
        return CANNOT_SERVE
    return exit_code(error)


@contextmanager
def full_stderr_ignored() -> Iterator[None]:
    """Go on if stderr is full: the exit code is all that is left."""
    try:
        yield
    except OSError:
        _discard(sys.stderr)


def _text(error: DnstrailError | OSError) -> str:
    if isinstance(error, DnstrailError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _discard(stream: TextIO) -> None:
    """Point a stream at /dev/null: the interpreter writes what is left in its buffer when it ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def exit_code(error: DnstrailError) -> int:
    """Return the exit code for an error; an error with an `exit_code` of its own names it."""
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own
    if isinstance(error, LookupRefused):
        from dnstrail.protocol.lookups import BAD_REQUEST

        return USAGE if error.code == BAD_REQUEST else NO_CACHE
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), CANNOT_SERVE)


def build_form() -> str:
    """Return "compiled" or "pure", by the file from which a module of the image would be loaded."""
    spec = PathFinder.find_spec("store", [str(Path(__file__).parents[1] / "image")])
    return "compiled" if spec is not None and isinstance(spec.loader, ExtensionFileLoader) else "pure"
