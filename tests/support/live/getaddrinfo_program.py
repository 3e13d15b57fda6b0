"""A program that resolves names with getaddrinfo, one at a time on request; also below a root of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dnstrail_probe.ebpf.getaddrinfo.elf import interpreter
from live.processes import PATIENCE

SOURCE = Path(__file__).with_name("getaddrinfo.c")
LEFT, NESTED = SOURCE.with_name("left.c"), SOURCE.with_name("nested.c")


class Resolving:
    """The running program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> tuple[int, set[str]]:
        """Let it resolve its next name; return the error and the addresses."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        error, *addresses = self.process.stdout.readline().split()
        return int(error), set(addresses)


def build(compiler: str, path: Path, source: Path = SOURCE, *options: str) -> Path:
    """Build a program with a compiler, linked to its C library."""
    subprocess.run([compiler, "-O1", "-w", *options, "-o", path, source], check=True, capture_output=True)
    return path


@contextmanager
def resolving(*command: str | Path, names: Sequence[str]) -> Iterator[Resolving]:
    """Run the program by a command, with the names that it will resolve."""
    with subprocess.Popen([*command, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Resolving(process)
        finally:
            process.stdin.close()
            process.wait(PATIENCE)


def make_root(folder: Path, program: Path) -> Path:
    """Make a root with a program, its loader and its libraries alone; return the path of its C library."""
    with program.open("rb") as file:
        loader = Path(str(interpreter(partial(os.pread, file.fileno()))))
    listed = subprocess.run([loader, "--list", program], check=True, capture_output=True, text=True).stdout
    found = [Path(line.split(" => ")[1].split()[0]) for line in listed.splitlines() if " => " in line]
    libraries = [path.parent.resolve() / path.name for path in found]  # /lib may be a link to /usr/lib
    for path, name in ((program, program.name), *((path, path) for path in (loader, *libraries))):
        copy = folder / str(name).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (folder / "etc").mkdir()
    (folder / "etc" / "nsswitch.conf").write_text("hosts: files dns\n")
    library = next(path for path in libraries if path.name == "libc.so.6")
    return folder / str(library).lstrip("/")
