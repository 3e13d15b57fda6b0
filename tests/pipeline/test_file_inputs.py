"""Whatever is in the place of a file that a worker reads at its start: it is refused, and holds nobody.

Tests of dnstrail.regular_file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dnstrail.bus.keys import CLIENTS, public_keys
from dnstrail.errors import DnstrailError
from dnstrail.process.config_file import read_config
from dnstrail_cache.state.state_file import read_state
from dnstrail_findings.targets import parse_target
from dnstrail_signatures.detection.known_file import KnownFile
from dnstrail_signatures.detection.watch_table import read_watch_list
from dnstrail_signatures.loading import load as loading


def huge(path: Path) -> None:
    """Make a sparse file of 100 GB."""
    with path.open("wb") as file:
        file.truncate(100 << 30)


def zero(path: Path) -> None:
    """Make a device that never ends: /dev/zero."""
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


def bytes_that_are_no_text(path: Path) -> None:
    """Make a file of bytes that are no UTF-8."""
    path.write_bytes(b"\xff\xfe\x00" * 100)


def read_known(path: Path) -> None:
    KnownFile(str(path), "known names").read(msgspec.json.Decoder(dict[str, str]).decode_lines)


def read_token(path: Path) -> None:
    parse_target(f"webhook:https://127.0.0.1/,token={path}")


def read_signature(path: Path) -> None:
    loading._from_file(loading.SignatureFile(path, loading._read(path, set())))


def read_key(path: Path) -> None:
    folder = path.parent / "keys"
    (folder / CLIENTS).mkdir(parents=True, mode=0o755)
    path.rename(folder / CLIENTS / "file.key")
    public_keys(folder, CLIENTS)


INPUTS = [read_config, read_signature, read_token, read_watch_list, read_known, read_state, read_key]


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, zero, huge, bytes_that_are_no_text])
@pytest.mark.parametrize("read", INPUTS)
def test_a_hostile_file_is_refused(
    tmp_path: Path, read: Callable[[Path], object], make: Callable[[Path], None]
) -> None:
    """A pipe, a folder, a device, a huge file and one without text are refused at once, with the name of the file."""
    tmp_path.chmod(0o755)
    path = tmp_path / "file.py"
    make(path)
    with pytest.raises(DnstrailError, match="file"):
        read(path)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000], ids=["depth", "number"])
def test_settings_that_break_the_parser_are_refused(tmp_path: Path, text: str) -> None:
    """TOML that is nested without an end, and a number that Python does not convert, are refused with an error."""
    tmp_path.chmod(0o755)
    path = tmp_path / "dnstrail.toml"
    path.write_text(text)
    with pytest.raises(DnstrailError, match=r"dnstrail\.toml"):
        read_config(path)


def test_known_names_are_never_written_through_a_link(tmp_path: Path) -> None:
    """A link in the place of the new file, which somebody else may have made, leads nowhere."""
    target = tmp_path / "target"
    target.write_text("kept")
    (tmp_path / "known.new").symlink_to(target)
    KnownFile(str(tmp_path / "known"), "known names").write([b"{}"])
    assert (target.read_text(), (tmp_path / "known").read_text()) == ("kept", "{}\n")
