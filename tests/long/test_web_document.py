"""The OpenAPI document of the page is kept by the replies of a real process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from live.processes import run_dir, started, wait_until
from live.web_page import web_page

EXAMPLES = os.environ.get("DNSTRAIL_API_EXAMPLES", "5")  # requests of each kind for an operation
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.timeout(600)
def test_the_replies_keep_the_document(tmp_path):
    """Schemathesis finds no request, valid or not, whose reply the document does not have."""
    schemathesis = Path(sys.executable).with_name("schemathesis")
    with ExitStack() as stack:
        folder = stack.enter_context(run_dir())
        history = folder.parent / "history"
        stack.enter_context(started("cache", "--run-dir", folder))
        stack.enter_context(started("history", "--run-dir", folder, "--folder", history))
        wait_until(lambda: [*history.glob("*.open")], "the history")
        page = stack.enter_context(web_page(folder, "--folder", history, "--mutes", folder / "web.mutes"))
        page.enter()
        command = [schemathesis, "run", f"http://{page.host}/api/openapi.json", "-H", f"Cookie: {page.cookie}"]
        command += ["--checks", CHECKS, "--max-examples", EXAMPLES, "--exclude-path", "/api/events"]
        command += ["--no-color", "--generation-database", "none", "--phases", "coverage,fuzzing"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
        assert re.search(r"Tested: [1-9]", done.stdout), done.stdout
        assert page.json("/api/session")["ok"]
