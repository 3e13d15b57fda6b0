"""Text from strangers on its way to a terminal.

Tests of dnstrail.process.log.
"""

from __future__ import annotations

import subprocess
import sys

CODE = "import sys, dnstrail.process.terminal; print('encodings.unicode_escape' in sys.modules)"


def test_the_codec_that_escapes_is_loaded_at_once() -> None:
    """A worker escapes names although its user may not read the modules: Python would load the codec only then."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
