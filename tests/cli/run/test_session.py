"""One run of a command: what its report says of it."""

from __future__ import annotations

import os

import pytest

from dnstrail_cli.run import session
from dnstrail_cli.run.files import FORMATS
from dnstrail_cli.run.followed import Followed
from dnstrail_cli.run.report import Coverage, Report


def report_of(*command: str, code: int = 0) -> Report:
    """Return the report about a command that did nothing."""
    return session._report_of(command, code, Followed(0, frozenset()), [], Coverage(True, [], ""))


@pytest.mark.parametrize("form", FORMATS)
def test_an_argument_that_is_no_text_is_escaped(form):
    """Each form of a report contains an argument that is no UTF-8, with its bytes escaped."""
    report = report_of("sh", "é", os.fsdecode(b"x\xff"))
    assert report.command == ["sh", "é", "x\\xff"]
    assert FORMATS[form](report).encode()
