"""Chromium as a command for `dnstrail run --enforce --check-server-name`.

Run as `NAME TRIES`: makes connections that state the name to the address of NAME of `stated_names`, and prints how many
handshakes passed.
"""

from __future__ import annotations

import sys

from playwright.sync_api import sync_playwright

from live.stated_names import NAME, OTHER

_RULES = f"MAP {OTHER} {NAME}, MAP * ~NOTFOUND, EXCLUDE {NAME}"  # Chromium asks for names of its own
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


def main(name: str, tries: int) -> None:
    """Fetch a page again and again: the server ends each connection."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(_ARGUMENTS), timeout=_PATIENCE
        )
        print(browser.new_page().evaluate(_FETCHES, [name, tries]))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
