"""The file of mutes: findings that people do not want to see for a time. The page writes it, signature workers obey it.

It holds data alone: JSON with a list of mutes. Times are in epoch seconds.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.private_folder import SAFELY
from dnstrail.regular_file import read_regular

MOST: Final = 1024  #: mutes in a file -> a further one is refused by the page, and the file by a signature worker
MOST_BYTES: Final = 1 << 20  #: bytes of a file of mutes -> a signature worker keeps the mutes that it has
LONGEST: Final = 31_622_400.0  #: seconds of a mute -> a longer one is refused
_READABLE: Final = 0o640  # by the group of the folder, to which signature workers belong
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class FindingMute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Findings of an event that are not reported until a time.

    `process` limits it to those of a process: each process chooses its own name. `unit` limits it to those of a systemd
    unit: the unit of a user begins with the user, who chooses the rest. `value` limits it to those of which
    an argument has this value, and `argument` names the argument that must have it. Numbers are compared as text.
    """

    id: _Name
    event: _Name
    until: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    value: _Text = ""
    argument: _Text = ""
    process: _Text = ""
    note: _Text = ""
    unit: _Text = ""

    def fits(self, finding: Mapping[str, Any], now: float) -> bool:
        """Return whether a finding (in tracee's shape) is muted at a time."""
        return (
            now < self.until
            and finding.get("eventName") == self.event
            and self.process in ("", finding.get("processName"))
            and self.unit in ("", finding.get("unit"))
            and (not (self.value or self.argument) or any(map(self._names, finding.get("args", ()))))
        )

    def _names(self, argument: Mapping[str, Any]) -> bool:
        return self.argument in ("", argument.get("name")) and text_of_value(argument.get("value")) == self.value


def text_of_value(value: object) -> str | None:
    """Return the text by which a mute names the value of an argument: 443 and 443.0 are "443"; None: it has none."""
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case _:
            return None


_DECODER: Final = msgspec.json.Decoder(Annotated[list[FindingMute], msgspec.Meta(max_length=MOST)])


class Mutes:
    """The mutes of a file, which may not exist yet. `refused` is why the file is not obeyed, "" if it is."""

    def __init__(self, path: Path) -> None:
        self.refused = ""
        self._path = path
        self._state: object = None
        self._mutes: tuple[FindingMute, ...] = ()
        self.reload()

    def reload(self) -> bool:
        """Read the file if it has changed; return whether it was. A bad file leaves the mutes as they are."""
        try:
            found = self._path.stat()
            state: object = found.st_ino, found.st_mtime_ns, found.st_size
        except FileNotFoundError:
            state = ""
        except OSError as error:
            state = error.errno
        if state == self._state:
            return False
        self._state = state
        try:
            self._mutes, self.refused = tuple(read_mutes(self._path)), ""
        except SettingsError as error:
            self.refused = str(error)
        return True

    def fit(self, finding: Mapping[str, Any], now: float) -> bool:
        """Return whether a finding is muted at a time (epoch seconds)."""
        return any(mute.fits(finding, now) for mute in self._mutes)


def read_mutes(path: Path) -> list[FindingMute]:
    """Return the mutes of a file, [] if it does not exist.

    Raises:
        SettingsError: it cannot be read, or is no file of mutes.
    """
    try:
        return _DECODER.decode(read_regular(path, MOST_BYTES, links=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"mutes {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SettingsError(f"mutes {path}: {error}") from error


def write_mutes(path: Path, mutes: Iterable[FindingMute]) -> None:
    """Replace a file by one with these mutes, which the group of its folder can read.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.lock")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, _READABLE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode([*mutes]))
            os.fchmod(file.fileno(), _READABLE)
            folder = path.parent.stat()
            if folder.st_gid != os.getegid():
                os.chown(file.fileno(), -1, folder.st_gid)
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
