"""The address of an engine names TLS, a user, a CA and a password file; each other one names its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail_fleet.log.engine_address import KAFKA, PORTS, VALKEY, EngineAddress, parse_engine

FILES = ",ca=/a/ca.pem,password=/a/pass"


def test_an_address_is_read(tmp_path: Path) -> None:
    """User, host, port and files are read; the port has a default, and the password is not shown."""
    for name, content in (("ca", "PEM"), ("password", "secret\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    files = f",ca={tmp_path}/ca,password={tmp_path}/password"
    expected = EngineAddress("engine.example", PORTS[VALKEY], "web1", "PEM", "secret")
    assert parse_engine(f"valkeys://web1@engine.example{files}") == expected
    assert parse_engine(f"kafkas://web1@engine.example{files}") == expected._replace(port=PORTS[KAFKA], scheme=KAFKA)
    assert parse_engine(f"rediss://web1@[2001:db8::1]:7000{files}")[:2] == ("2001:db8::1", 7000)
    assert str(expected) == repr(expected) == "valkeys://web1@engine.example:6380"


def test_sentinels_are_read(tmp_path: Path) -> None:
    """Several sentinels, and the name of the primary, are read from an address, which is written as it was read."""
    for name in ("ca", "password"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    text = "valkeys+sentinel://web1@a.example:1,[2001:db8::1]:26379,c.example:26379/fleet"
    found = parse_engine(f"{text},ca={tmp_path}/ca,password={tmp_path}/password")
    assert str(found) == repr(found) == text
    assert (found.primary, found.password) == ("fleet", "x")
    places = ["valkeys://web1@a.example:1", "valkeys://web1@[2001:db8::1]:26379", "valkeys://web1@c.example:26379"]
    assert [str(one) for one in found.servers] == places
    short = parse_engine(f"valkeys+sentinel://web1@a.example,ca={tmp_path}/ca,password={tmp_path}/password")
    assert str(short) == "valkeys+sentinel://web1@a.example:26379/mymaster"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (f"valkey://web1@engine.example{FILES}", "tls-port"),
        (f"tcp://engine.example:6379{FILES}", "tls-port"),
        (f"redis://engine.example{FILES}", "tls-port"),
        (f"kafka://web1@engine.example{FILES}", "without TLS"),
        (f"https://web1@engine.example{FILES}", "valkeys://USER@HOST"),
        (f"valkeys://web1:secret@engine.example{FILES}", "password=FILE"),
        (f"valkeys://engine.example{FILES}", "user"),
        (f"valkeys://a%20b@engine.example{FILES}", "user"),
        (f"valkeys://web1@engine.example:99999{FILES}", "valkeys://USER@HOST"),
        (f"valkeys://web1@{FILES}", "valkeys://USER@HOST"),
        ("valkeys://web1@engine.example", "ca and password"),
        ("valkeys://web1@engine.example,ca=,password=x", "ca and password"),
        (f"valkeys://web1@engine.example{FILES},db=3", "ca and password"),
        (f"valkeys://web1@a.example,b.example{FILES}", "valkeys://USER@HOST"),
        (f"valkeys://web1@a.example/fleet{FILES}", "valkeys://USER@HOST"),
        (f"valkeys://web1@a.example?db=3{FILES}", "valkeys://USER@HOST|ca and password"),
        (f"valkeys+sentinel://web1@a.example,{FILES}", "'' is no host: write valkeys.sentinel://USER@HOST"),
        (f"valkeys+sentinel://web1@a.example,b.example:x{FILES}", "/NAME,ca=FILE"),
        (f"valkeys+sentinel://web1@a.example,eve@b.example{FILES}", "user"),
        (f"valkeys+sentinel://web1@a.example/a b{FILES}", "letters, digits"),
    ],
)
def test_a_wrong_address_names_its_remedy(text: str, remedy: str) -> None:
    """Without TLS, with a password, without a user or a file, an address is refused."""
    with pytest.raises(SettingsError, match=remedy):
        parse_engine(text)


@pytest.mark.parametrize(
    ("content", "mode", "fault"), [("", 0o600, "one line"), ("a\nb", 0o600, "one line"), ("a", 0o666, "others may")]
)
def test_a_password_file_is_checked(tmp_path: Path, content: str, mode: int, fault: str) -> None:
    """A password is one line of a file to which others may not write."""
    path = tmp_path / "pass"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=fault):
        parse_engine(f"valkeys://web1@engine.example,ca={path},password={path}")
