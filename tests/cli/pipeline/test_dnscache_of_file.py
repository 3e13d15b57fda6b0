"""The settings of the cache of a run that plays a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import dnstrail_probe
from dnstrail.capture_options import CaptureOptions
from dnstrail.process.clock import SystemClock
from dnstrail.settings import parse_dnscache
from dnstrail_cli.pipeline.options import MEMORY, PipelineRun
from dnstrail_cli.pipeline.run import make_plan

FILE = str(Path(dnstrail_probe.__file__).parent / "sources/demo.pcap")


@pytest.mark.parametrize(
    ("capture", "given", "settings", "size", "grace"),
    [
        pytest.param(FILE, (), "", 100_000, 60, id="a larger size than that of live sources"),
        pytest.param("ebpf", (), "", 5000, 60, id="a live source"),
        pytest.param(FILE, ("size=7",), "", 7, 60, id="a size that is given"),
        pytest.param(FILE, ("grace=5, size=9",), "", 9, 5, id="a size among other settings"),
        pytest.param(FILE, ("grace=5",), "", 100_000, 5, id="another setting that is given"),
        pytest.param(FILE, (), "dnscache = 'grace=9'", 100_000, 9, id="one of the file of settings"),
        pytest.param(FILE, (), "dnscache = ['grace=9', 'size=8']", 8, 9, id="several of the file of settings"),
        pytest.param(FILE, ("grace=5",), "dnscache = ['grace=9', 'size=8']", 100_000, 5, id="what is given counts"),
    ],
)
def test_the_settings_of_the_cache(tmp_path, capture, given, settings, size, grace):
    """The image of a file has a larger size by default. What is given replaces the settings of the file."""
    config = tmp_path / "dnstrail.toml"
    config.write_text(f"[cache]\n{settings}\n")
    config.chmod(0o600)
    run = PipelineRun(
        capture=capture,
        run_dir=None,
        dnscache=given,
        events=("net_packet_dns",),
        output=(),
        signatures=(),
        options=CaptureOptions(),
        memory=MEMORY,
        config=str(config),
        to=(),
    )
    found = parse_dnscache(make_plan(run, tmp_path, None, SystemClock()).dnscache)
    assert (found.size, found.grace) == (size, grace)
    assert found.relations == (400_000 if size == 100_000 else 0)  # 0: as many as fit the size
