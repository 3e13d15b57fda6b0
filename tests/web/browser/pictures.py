"""Take pictures of the views over the bundled capture: `python tests/web/browser/pictures.py FOLDER`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from live.ports import free_port
from live.processes import run_dir, started, wait_until

CAPTURE = Path(__file__).parents[3] / "services/probe/dnstrail_probe/sources/demo.pcap"
USER = 60_531
MOST = 200_000  # bytes of a picture
HEIGHT = 620
_TIME = "since=2026-11-01T12:00:00Z&until=2026-11-01T12:00:10Z"
OF_THE_RUN = {"trail": "/trail?key=192.0.2.10&at=2026-11-01T12:00:05Z", "findings": "/findings"}
OF_THE_HISTORY = {"now": f"/now?{_TIME}&group=domain"}


def main() -> None:
    """Take all pictures. The history of the capture is loaded, for a run of a file keeps none."""
    target = Path(sys.argv[1])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        with page_of("--capture", "demo", "--stay", "--web") as link:
            take(browser, link, OF_THE_RUN, target)
        with run_dir() as folder:
            history = folder / "history"
            command = [sys.executable, "-m", "dnstrail_cli", "history", "--folder", str(history), "load", str(CAPTURE)]
            subprocess.run(command, check=True)
            user = given_away(history)
            with page_of("web", *user, "--folder", str(history), "--listen") as link:
                take(browser, link, OF_THE_HISTORY, target)
        browser.close()


def given_away(folder: Path) -> list[str]:
    """Give a folder of root to the unused user to whom the worker of root switches; return the option for it."""
    if os.geteuid():
        return []
    folder.parent.chmod(0o755)
    for path in (folder, *folder.iterdir()):
        os.chown(path, USER, USER)
    return ["--user", f"{USER}:{USER}"]


@contextmanager
def page_of(*command: str) -> Iterator[str]:
    """Run a command that serves the page at the port behind it; yields its link."""
    with run_dir() as folder:
        if "--user" in command:
            os.chown(folder, USER, USER)
        link = folder / "web.link"
        with started(*command, str(free_port("127.0.0.1")), "--run-dir", folder):
            wait_until(lambda: link.exists() and link.read_text().endswith("\n"), "the link")
            yield link.read_text().strip()


def take(browser: Browser, link: str, views: dict[str, str], target: Path) -> None:
    """Sign in by a link, and save a picture of each view."""
    context = browser.new_context(
        viewport={"width": 1180, "height": HEIGHT}, color_scheme="light", timezone_id="UTC", locale="en-GB"
    )
    page = context.new_page()
    page.goto(link)
    for name, path in views.items():
        page.goto(link.partition("/?")[0] + path)
        page.locator(".body .row, .drawing .node").first.wait_for()
        if name == "findings":
            page.locator(".body .row").first.click()
            page.locator(".side .paths").wait_for()
        page.get_by_text("reading the history").wait_for(state="hidden")
        picture = target / f"page-{name}.png"
        page.screenshot(path=picture)
        if picture.stat().st_size > MOST:
            raise SystemExit(f"{picture} has {picture.stat().st_size} bytes, and {MOST} are the most")
    context.close()


if __name__ == "__main__":
    main()
