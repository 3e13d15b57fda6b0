"""Profiles of hypothesis: HYPOTHESIS_PROFILE=dev (default) or long. In CI the examples are always the same."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_IN_CI = os.environ.get("CI") == "true"
_SHARED = {
    "derandomize": _IN_CI,
    "print_blob": True,
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("dev", max_examples=100, **_SHARED)
settings.register_profile("long", max_examples=5000, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
