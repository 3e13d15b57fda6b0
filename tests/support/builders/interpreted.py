"""The mark of tests that replace a method of the image, which compiled classes do not allow."""

from __future__ import annotations

import pytest

from dnstrail.process.command import build_form

INTERPRETED = pytest.mark.skipif(build_form() == "compiled", reason="replaces a method of a compiled class")
