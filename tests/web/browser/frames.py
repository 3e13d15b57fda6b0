"""Five open pages under load, and the server. It asserts no figure. As root, for ten minutes on a quiet host.

    DNSTRAIL_BROWSER=1 DNSTRAIL_SECONDS=600 .venv/bin/python -m pytest tests/web/browser/frames.py -rP

DNSTRAIL_RATE is the number of questions a second (2,000), and DNSTRAIL_SECONDS the length (60). On a busy host workers
and pages wait for a processor: the output states for how long. The processor time of the main thread of a page (`Task`,
and `Script`, `Layout` and `RecalcStyle` of it) depends less on the load of the host than its frame times.
"""

from __future__ import annotations

import os
import sys
import time

import pytest

from live.processes import processor_time, resident

RATE = int(os.environ.get("DNSTRAIL_RATE", "2000"))
SECONDS = int(os.environ.get("DNSTRAIL_SECONDS", "60"))
VIEWS = ["/now", "/now?group=none", "/trail?key=10.99.0.1", "/findings", "/health"]
WORKERS = ("web", "cache", "probe", "history")
PARTS = ("Task", "Script", "Layout", "RecalcStyle")  # of the main thread of a page; the first one contains the others
EVERY, SHOWN = 5, 12  # seconds between two readings of memory, and how many of them are printed
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
print(sent)
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


@pytest.mark.timeout(2 * SECONDS + 300)
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
    servers = {watched.run.worker(name): name for name in WORKERS}
    before, browser = {server: processor_time(server) for server in servers}, processors_of(context.browser)
    sessions = {path: page.context.new_cdp_session(page) for path, page in pages.items()}
    for session in sessions.values():
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
    threads = {path: main_thread(session) for path, session in sessions.items()}
    memory = {server: [] for server in servers}
    heaps = {path: [] for path in pages}
    for page in pages.values():
        page.evaluate(WATCH)
    measured = time.monotonic()
    while sender.poll() is None:
        time.sleep(EVERY)
        for path, page in pages.items():
            heaps[path].append(heap(page))
        for server, found in memory.items():
            found.append(resident(server))
    passed = time.monotonic() - measured
    sent = int(sender.communicate()[0])
    sys.stdout.write(f"{sent / (SECONDS or 1):.0f} questions a second; lost: {watched.run.stats()['lost']['total']}\n")
    for server, name in servers.items():
        used, waited = (
            100 * (late - early) / passed for late, early in zip(processor_time(server), before[server], strict=True)
        )
        sys.stdout.write(f"{name}: {used:.1f} % of a core, waited {waited:.0f} %; {listed(memory[server])} MiB\n")
    busy = 100 * (processors_of(context.browser) - browser) / passed
    sys.stdout.write(f"browser: {busy:.0f} % of a core, for {len(pages)} pages\n")
    for path, page in pages.items():
        late = main_thread(sessions[path])
        work = ", ".join(f"{part} {1000 * (late[part] - threads[path][part]) / passed:.0f}" for part in PARTS)
        frames = sorted(page.evaluate("window.frames_"))
        p50, p95, p99 = (frames[int(len(frames) * share) - 1] for share in (0.5, 0.95, 0.99))
        rate = page.locator(".state").inner_text().replace("\n", " ")
        sys.stdout.write(
            f"{path}: {len(frames)} frames, p50 {p50:.1f} p95 {p95:.1f} p99 {p99:.1f} longest {frames[-1]:.0f} ms; "
            f"main thread {work} ms a second; heap after collection {listed(heaps[path])} MB; {rate}\n"
        )
        page.context.close()


def processors_of(browser):
    """Return the processor time of all processes of a browser, in seconds."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(one["cpuTime"] for one in found)


def main_thread(session):
    """Return the processor time of the main thread of a page until now, by part, in seconds."""
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {part: found[f"{part}Duration"] for part in PARTS}


def listed(figures):
    """Return some figures of many as text: the first, the last, and those at equal distances between them."""
    step = max(1, len(figures) // SHOWN)
    return " ".join(f"{one:.0f}" for one in [*figures[:-1:step], *figures[-1:]])


def heap(page):
    """Return the heap of a page after a collection of garbage, in MB."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used / 1e6
