"""The signatures that are on report the attacks of the corpus, and are silent on a sample of ordinary captures."""

from __future__ import annotations

import pytest

from builders.corpus import CORPUS, needs_corpus
from builders.detection_run import captured_events, detect
from builders.expected_findings import ATTACK
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.loading.signature_settings import is_on

pytestmark = needs_corpus
ORDINARY = ("zeek__wikipedia.pcap", "ndpi__android.pcap", "ndpi__teams.pcap", "dns-collector__dnsdump_tcp.pcap")
ENABLED = [cls for cls in load(find()) if is_on(cls) and cls.__module__.startswith("dnstrail_signatures.builtin.")]
NAMES = {cls.metadata.event_name for cls in ENABLED}


@pytest.mark.parametrize("capture", [*ATTACK, *ORDINARY])
def test_a_capture_has_the_expected_findings(capture):
    """Each labelled capture has its findings and no others; an ordinary one has none."""
    run = detect(captured_events(CORPUS / "captures" / capture), ENABLED)
    expected = [name for name in ATTACK.get(capture, ()) if name in NAMES]
    assert (sorted(run.names()), run.errors) == (sorted(expected), 0)
