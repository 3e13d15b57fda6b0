"""A signature that counts the DNS messages it receives, and reports the number on the exit of a process `true`."""

from __future__ import annotations

SIGNATURE = """
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT
from dnstrail.signature import EventSelector, Signature, SignatureMetadata

class Counting(Signature):
    metadata = SignatureMetadata("C-1", "1", "Counting", "COUNTED")
    selected_events = (EventSelector(name=NET_PACKET_DNS), EventSelector(name=SCHED_PROCESS_EXIT))
    received = 0

    def on_event(self, event):
        if event.event_name == NET_PACKET_DNS:
            self.received += 1
        elif event.process_name == "true":
            self.report(event, received=self.received)
"""
