"""Programs of another user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

USER = 60_543  # no other process of this host has it


@contextmanager
def program_of(user: int, *command: str) -> Iterator[int]:
    """Run a program that repeats a line (cat by default) as a user until the end of the block; yield its pid."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    pipe, run = subprocess.PIPE, command or ("cat",)
    with subprocess.Popen(run, user=user, group=user, extra_groups=[], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"runs\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"runs\n"
        yield process.pid
        process.kill()
