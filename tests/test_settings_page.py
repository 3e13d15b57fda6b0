"""Every command accepts the example of docs/use/settings.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from dnstrail.process.config_file import SIGNATURE, TABLES, read_config
from dnstrail_cli.__main__ import main_command
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.loading.signature_settings import settings_of

PAGE = Path(__file__).parents[1] / "docs/use/settings.md"
EXAMPLE = re.search(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL).group(1)
COMMANDS = [table for table in TABLES if table != SIGNATURE]


def command(table: str) -> click.Command:
    return main_command if table == "dnstrail" else main_command.get_command(click.Context(main_command), table)


@pytest.fixture
def file(tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "dnstrail.toml"
    path.write_text(EXAMPLE)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("table", COMMANDS)
def test_a_command_accepts_the_example(file, table):
    """Each command accepts the example, and takes its options from it."""
    words = ["--config", str(file), *(["demo"] if table == "replay" else [])]
    context = command(table).make_context(table, words)
    assert {key.replace("-", "_") for key in tomllib.loads(EXAMPLE).get(table, {})} <= context.default_map.keys()


def test_the_signatures_accept_the_example(file):
    """The tables of signatures are those of signatures that ship with dnstrail."""
    assert settings_of(read_config(file), load(find()))
