"""The traffic: runs jobs at their times, a bounded number at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from clients import environment
from hosts import Host
from jobs import Job

AT_ONCE = 12  # processes
LONGEST = 30.0  # seconds of one process


def run_jobs(
    jobs: list[Job], hosts: list[Host], folder: Path, *, at_once: int = AT_ONCE, longest: float = LONGEST
) -> int:
    """Run all jobs; return the number of processes that were killed because they ran too long."""
    start, never = time.monotonic(), threading.Event()
    with ThreadPoolExecutor(at_once) as pool:
        results = []
        for job in jobs:
            never.wait(max(0.0, start + job.begins - time.monotonic()))
            results.append(pool.submit(_run, job, hosts[job.host], folder, longest))
        return sum(not result.result() for result in results)


def _run(job: Job, host: Host, folder: Path, longest: float) -> bool:
    """Run a job to its end, and all its processes; return False if it ran too long."""
    command = host.command(*job.command(folder))
    with (folder / f"job{job.number}.log").open("wb") as out:
        job.started = time.time_ns()
        process = subprocess.Popen(
            command,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        job.process = process.pid
        try:
            process.wait(longest)
        except subprocess.TimeoutExpired:
            return False
        finally:
            job.ended = time.time_ns()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return True
