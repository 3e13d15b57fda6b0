#!/bin/sh
# Install what the tests in a browser need: setup-web.sh VENV. Chromium comes from Debian, as root on Debian or Ubuntu;
# playwright, which drives it, and axe-core, which checks accessibility, come from PyPI into the virtual environment.
set -eu
venv=$1
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing chromium" >&2
    "$(dirname "$0")/install-packages.sh" chromium fonts-dejavu-core
fi
command -v chromium >/dev/null || echo "setup: no chromium; the tests that need it are skipped" >&2
"$venv/bin/python" -c 'import playwright, axe_playwright_python' 2>/dev/null ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check playwright==1.65.2 axe-playwright-python==0.1.8
