"""The writer: a process that keeps the rights to write the files of a run, which the rest of dnstrail drops.

It is forked before the launcher. The command cannot signal it: its real user is that of dnstrail.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import traceback
from collections.abc import Sequence
from contextlib import suppress

from dnstrail_run.launcher import OF_TERMINAL, PASSED
from dnstrail_run.output_file import OutputFile


class Writer:
    """The handle of the writer in the process that forked it. No other thread may run yet."""

    def __init__(self, files: Sequence[OutputFile]) -> None:
        self._names = [file.name for file in files]
        self._socket, theirs = socket.socketpair()
        self._process = os.fork()
        if self._process == 0:
            code = 1
            try:
                self._socket.close()
                _serve(files, theirs)
                code = 0
            except BaseException:  # noqa: BLE001 - nothing of this process may go on as its parent
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        for file in files:
            file.close()
        self._replies = self._socket.makefile("rb")

    def changes(self) -> list[str]:
        """Return a sentence for each file that was changed or replaced since it was opened."""
        return self._ask(None)

    def write(self, texts: Sequence[str]) -> list[str]:
        """Write each file; return why some cannot be written."""
        return self._ask(texts)

    def close(self) -> None:
        """End the writer. It discards its files, unless it wrote them."""
        self._replies.close()
        self._socket.close()
        os.waitpid(self._process, 0)

    def _ask(self, texts: Sequence[str] | None) -> list[str]:
        with suppress(OSError, ValueError):
            self._socket.sendall(json.dumps(texts).encode() + b"\n")
            sentences: list[str] = json.loads(self._replies.readline())
            return [sentence for sentence in sentences if sentence]
        return [f"{name}: the process that writes it was ended" for name in self._names]


def _serve(files: Sequence[OutputFile], asked: socket.socket) -> None:
    """Answer the other end until it is closed."""
    for number in (*PASSED, *OF_TERMINAL):  # they are for the command
        signal.signal(number, signal.SIG_IGN)
    written = False
    with asked.makefile("rb") as lines:
        for line in lines:
            texts: list[str] | None = json.loads(line)
            if texts is None:
                sentences = [file.change() for file in files]
            else:
                written = True
                sentences = [file.write(text) for file, text in zip(files, texts, strict=True)]
            asked.sendall(json.dumps(sentences).encode() + b"\n")
    for file in () if written else files:
        file.discard()
