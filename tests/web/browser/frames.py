"""Frame times and heap of five open pages under load: `pytest tests/web/browser/frames.py -rP`. It asserts no figure.

DNSTRAIL_RATE is the number of questions a second (2,000), and DNSTRAIL_SECONDS the length (60).
"""

from __future__ import annotations

import os
import sys
import time

RATE = int(os.environ.get("DNSTRAIL_RATE", "2000"))
SECONDS = int(os.environ.get("DNSTRAIL_SECONDS", "60"))
VIEWS = ["/now", "/now?group=none", "/trail?key=10.99.0.1", "/findings", "/health"]
SEND = """
import socket, struct, sys, time
rate, seconds = int(sys.argv[1]), int(sys.argv[2])
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect(('10.99.0.3', 53))
one.setblocking(False)
began, sent = time.monotonic(), 0
while (now := time.monotonic() - began) < seconds:
    while sent < now * rate:
        label = b'f%d' % sent
        name = bytes([len(label)]) + label + b'\\3any\\7example\\0'
        one.send(struct.pack('>6H', sent & 0xFFFF, 256, 1, 0, 0, 0) + name + struct.pack('>2H', 1, 1))
        sent += 1
    try:
        while True:
            one.recv(4096)
    except BlockingIOError:
        time.sleep(0.005)
"""
WATCH = """() => {
    window.frames_ = [];
    let last = performance.now();
    const next = () => {
        const now = performance.now();
        window.frames_.push(now - last);
        last = now;
        requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
}"""


def test_frames(watched, context):
    """Five pages, each in a window of its own, while questions for fresh names arrive."""
    state = context.storage_state()
    pages = {}
    for path in VIEWS:
        window = context.browser.new_context(storage_state=state, viewport={"width": 1280, "height": 800})
        page = pages[path] = window.new_page()
        page.goto(watched.address + path)
    sender = watched.hosts.start_on_client(sys.executable, "-c", SEND, str(RATE), str(SECONDS))
    time.sleep(5)
    heaps = {path: [] for path in pages}
    for page in pages.values():
        page.evaluate(WATCH)
    while sender.poll() is None:
        time.sleep(5)
        for path, page in pages.items():
            heaps[path].append(heap(page))
    sender.communicate()
    for path, page in pages.items():
        frames = sorted(page.evaluate("window.frames_"))
        p50, p95, p99 = (frames[int(len(frames) * share) - 1] for share in (0.5, 0.95, 0.99))
        rate = page.locator(".state").inner_text().replace("\n", " ")
        sys.stdout.write(
            f"{path}: {len(frames)} frames, p50 {p50:.1f} p95 {p95:.1f} p99 {p99:.1f} longest {frames[-1]:.0f} ms; "
            f"heap after collection {' '.join(f'{one:.0f}' for one in heaps[path])} MB; {rate}\n"
        )
        page.context.close()


def heap(page):
    """Return the heap of a page after a collection of garbage, in MB."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used / 1e6
