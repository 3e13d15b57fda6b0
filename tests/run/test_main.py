"""The command line of `dnstrail run`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dnstrail_run.__main__ import command, learned_file
from dnstrail_run.allow_list import group_text


@pytest.mark.parametrize(
    ("value", "file", "domains"),
    [
        (None, None, False),
        ("learned.txt", Path("learned.txt"), False),
        ("domains:out/learned.txt", Path("out/learned.txt"), True),
        ("./domains:x", Path("domains:x"), False),
    ],
)
def test_a_word_before_the_file_selects_whole_domains(value, file, domains):
    """`--allow-learn domains:FILE` writes whole domains to the file, and `--allow-learn FILE` their names."""
    assert learned_file(value) == (file, domains)


def test_a_group_is_shown():
    """`--show-group` prints the entries of a group, with or without `@`; an unknown name is a wrong usage."""
    for name in ("npm", "@npm"):
        shown = CliRunner().invoke(command, ["--show-group", name])
        assert (shown.exit_code, shown.output) == (0, group_text("npm"))
    unknown = CliRunner().invoke(command, ["--show-group", "none"])
    assert unknown.exit_code == 2
    assert "there are debian, github, npm, pypi" in unknown.output
