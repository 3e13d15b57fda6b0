"""The link in the run-dir: who writes it, where it is printed, and how a program uses it.

Tests of dnstrail_web.access, dnstrail_cli.open_page, dnstrail.pipeline.pipeline.
"""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from contextlib import closing

from live.processes import dnstrail, run_dir, started, text_of, wait_until
from live.web_page import web_page


def test_a_second_server_of_a_folder_is_refused():
    """One server writes the link of a run-dir; another one ends, and leaves the link."""
    with run_dir() as folder, web_page(folder) as page:
        link = page.link
        done = dnstrail("web", "--run-dir", folder, "--listen", "0")
        assert (done.returncode, "another dnstrail serves here" in done.stderr) == (4, True), done.stderr
        assert page.link == link
        assert link.partition("token=")[2] not in done.stderr


def test_the_link_is_printed_on_a_terminal_alone():
    """A log has no link: it says what prints it."""
    with run_dir() as folder:
        with started("web", "--run-dir", folder, "--listen", "0") as process:
            wait_until(lambda: text_of(folder / "web.link"), "the link")
            link = text_of(folder / "web.link").strip()
            assert process.stderr
            printed = next(line for line in process.stderr if "the page:" in line)
        assert f"`dnstrail open --run-dir {folder}`" in printed
        assert link.partition("token=")[2] not in printed
        assert not (folder / "web.link").exists()
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "dnstrail_cli", "web", "--run-dir", folder, "--listen", "0"]
        with subprocess.Popen(command, stderr=theirs) as process:
            try:
                os.close(theirs)
                wait_until(lambda: text_of(folder / "web.link"), "the link")
                printed = os.read(ours, 4096).decode()
                while "\n" not in printed:
                    printed += os.read(ours, 4096).decode()
                assert text_of(folder / "web.link").strip() in printed
            finally:
                process.terminate()
                os.close(ours)


def test_a_link_that_was_left_is_no_page():
    """A run removes the link that an earlier page left, before its workers start: it waits for its own page."""
    with run_dir() as folder, closing(socket.create_server(("127.0.0.1", 0))) as other:
        folder.mkdir(exist_ok=True)
        (folder / "web.link").write_text("http://127.0.0.1:1/?token=stale\n")
        done = dnstrail("--capture", "demo", "--web", str(other.getsockname()[1]), "--run-dir", folder)
        assert (done.returncode, "the web worker ended with 4" in done.stderr) == (4, True), done.stderr
        assert not (folder / "web.link").exists()


def test_a_run_leaves_the_link_of_a_page_that_runs():
    """A run in the run-dir of a page is refused, and the link of the page stays."""
    with run_dir() as folder, web_page(folder) as page:
        link = page.link
        done = dnstrail("--capture", "demo", "--web", "0", "--run-dir", folder)
        assert (done.returncode, "another dnstrail serves here" in done.stderr) == (4, True), done.stderr
        assert page.link == link


def test_a_program_exchanges_a_link_out_of_sight():
    """The link is in no command line, and others cannot read the cookie."""
    shown = "(umask 077; {open} | sed 's/^/url=/' | curl -s -c cookies -K -)"
    with run_dir() as folder, web_page(folder) as page:
        opening = f"{sys.executable} -m dnstrail_cli open --run-dir {folder}"
        subprocess.run(["sh", "-ec", shown.format(open=opening)], cwd=folder, check=True, timeout=60)
        cookies = folder / "cookies"
        assert cookies.stat().st_mode & 0o077 == 0
        asked = ["curl", "-sf", "-b", cookies, f"http://{page.host}/api/session"]
        assert b'"ok":true' in subprocess.run(asked, capture_output=True, check=True, timeout=60).stdout
