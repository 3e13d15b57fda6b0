"""The file of mutes: data alone, bounded, replaced as a whole, and obeyed until a mute expires."""

from __future__ import annotations

import os
import stat

import msgspec
import pytest

from dnstrail.errors import SettingsError
from dnstrail.mutes import MOST, MOST_BYTES, FindingMute, Mutes, read_mutes, text_of_value, write_mutes

ARGS = [{"name": "name", "value": "a.example"}, {"name": "n"}, {"name": "port", "value": 443}]
FINDING = {"eventName": "E", "processName": "curl", "unit": "ssh.service", "args": ARGS}


@pytest.mark.parametrize(
    ("mute", "fits"),
    [
        ({}, True),
        ({"event": "F"}, False),
        ({"until": 10.0}, False),
        ({"process": "curl"}, True),
        ({"process": "wget"}, False),
        ({"unit": "ssh.service"}, True),
        ({"unit": "alice/ssh.service"}, False),
        ({"unit": "ssh.service", "process": "wget"}, False),
        ({"value": "a.example"}, True),
        ({"value": "example"}, False),
        ({"value": "a.example", "process": "wget"}, False),
        ({"value": "a.example", "argument": "name"}, True),
        ({"value": "a.example", "argument": "port"}, False),
        ({"value": "443"}, True),
        ({"value": "443", "argument": "port"}, True),
        ({"value": "443", "argument": "name"}, False),
        ({"value": "443.0"}, False),
        ({"argument": "port"}, False),
        ({"argument": "none"}, False),
    ],
)
def test_a_mute_fits_what_it_names(mute, fits):
    """A mute fits findings of its event, of its process and unit, and with its value, until it expires."""
    assert FindingMute(**{"id": "1", "event": "E", "until": 11.0, **mute}).fits(FINDING, 10.0) is fits


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (443, "443"), (443.0, "443"), (0.5, "0.5"), (True, "true"), (None, None), ([443], None)],
)
def test_values_are_compared_as_text(value, text):
    """Numbers and flags have one text; a list, or nothing, has none."""
    assert text_of_value(value) == text


def test_a_finding_without_arguments_fits_no_value():
    """A finding of another shape is muted by its event alone."""
    assert not FindingMute(id="1", event="E", until=11.0, value="x").fits({"eventName": "E"}, 10.0)
    assert not FindingMute(id="1", event="E", until=11.0, unit="x").fits({"eventName": "E"}, 10.0)


def test_a_unit_of_root_is_none_of_a_user():
    """A mute of a unit of root does not fit the unit that a user names alike."""
    of_user = {**FINDING, "unit": "alice/ssh.service"}
    muted = {
        unit: FindingMute(id="1", event="E", until=11.0, unit=unit) for unit in ("ssh.service", "alice/ssh.service")
    }
    assert [unit for unit, mute in muted.items() if mute.fits(of_user, 10.0)] == ["alice/ssh.service"]


def test_a_file_is_read_again_once_it_changes(tmp_path):
    """Mutes are those of the file as it is now; a bad file changes nothing, and is named."""
    path = tmp_path / "mutes"
    mutes = Mutes(path)
    assert not mutes.fit(FINDING, 10.0)
    write_mutes(path, [FindingMute(id="1", event="E", until=11.0)])
    assert (mutes.reload(), mutes.reload(), mutes.fit(FINDING, 10.0)) == (True, False, True)
    for bad in ("{", '[{"id":"1","event":"E","until":1,"run":"rm"}]', "[" * 100_000, '[{"id":"1"}]', "[1]", "null"):
        path.write_text(bad)
        assert mutes.reload()
        assert "mutes" in mutes.refused
        assert mutes.fit(FINDING, 10.0)
    write_mutes(path, [])
    assert (mutes.reload(), mutes.refused, mutes.fit(FINDING, 10.0)) == (True, "", False)
    path.unlink()
    assert (mutes.reload(), mutes.refused) == (True, "")


def test_the_bounds_of_a_file(tmp_path):
    """A file with too many mutes, or of too many bytes, is refused; one within the bounds is read."""
    path = tmp_path / "mutes"
    most = [FindingMute(id=str(number), event="E", until=1.0) for number in range(MOST)]
    write_mutes(path, most)
    assert read_mutes(path) == most
    path.write_bytes(msgspec.json.encode([*most, most[0]]))
    with pytest.raises(SettingsError):
        read_mutes(path)
    path.write_bytes(b"[]" + b" " * MOST_BYTES)
    with pytest.raises(SettingsError):
        read_mutes(path)


def test_what_is_no_file_is_refused(tmp_path):
    """A pipe does not hang the worker, and a link is not followed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link", "."):
        with pytest.raises(SettingsError):
            read_mutes(tmp_path / name)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    """The new file is readable by the group alone, has no link of a stranger behind it, and nothing is left beside."""
    path, target = tmp_path / "mutes", tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    write_mutes(path, [])
    assert (target.read_text(), path.is_symlink()) == ("precious", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {file.name for file in tmp_path.iterdir()} == {"mutes", "target"}
