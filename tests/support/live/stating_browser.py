"""Chromium as a command for `dnstrail run --enforce --check-server-name`.

Run as `TRIES`: makes connections for each name of the address of `stated_names`, and prints how many handshakes passed.
"""

from __future__ import annotations

import sys

from playwright.sync_api import sync_playwright

from live.stated_names import HIDDEN, NAME, OTHER

_RULES = f"MAP {OTHER} {NAME}, MAP * ~NOTFOUND, EXCLUDE {NAME}, EXCLUDE {HIDDEN}"  # Chromium asks for names of its own
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--ignore-certificate-errors",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--host-resolver-rules={_RULES}",
)
_PATIENCE = 180_000  # ms for the browser to start
_FETCHES = """
async ([name, tries]) => {
    let passed = 0;
    for (let left = tries; left; left--) {
        try {
            await fetch(`https://${name}/`, {mode: "no-cors", cache: "no-store"});
            passed++;
        } catch (error) {}
    }
    return passed;
}
"""


def main(tries: int) -> None:
    """Fetch a page again and again: the server ends each connection."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(_ARGUMENTS), timeout=_PATIENCE
        )
        page = browser.new_page()
        for name in (NAME, OTHER, HIDDEN):
            print("chromium", name, page.evaluate(_FETCHES, [name, tries]))
        browser.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
