"""The command line of `dnstrail run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnstrail_run.__main__ import learned_file


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
