"""The jobs and the course of a long measurement."""

from __future__ import annotations

from pathlib import Path

from course import AFTER, Course
from internet import draw_sites
from steady import steady_jobs


def test_steady_clients_share_the_rate():
    """Each of the clients waits so long on average that all together keep the rate, and all run from the start."""
    jobs = steady_jobs(1, draw_sites(1, 50, 0.1), 3, clients=200, rate=50.0, seconds=60.0)
    assert len(jobs) == 200
    assert {job.host for job in jobs} == {0, 1, 2}
    assert {job.begins for job in jobs} == {0.0}


def test_a_steady_client_reads_its_names_from_a_file(tmp_path):
    """The command states seed, interval, seconds and the file of the names, since there may be many."""
    [job, *_] = steady_jobs(1, draw_sites(1, 50, 0.1), 1, clients=200, rate=50.0, seconds=60.0)
    *_, seed, interval, seconds, names = job.command(tmp_path)
    assert (seed, interval, seconds) == ("1-0", "4.0", "60.0")
    assert len(Path(names).read_text().split()) == 50


def test_the_seconds_after_a_restart_are_judged_apart():
    """Only the ten seconds after the restart belong to it."""
    course = Course(restarted=100)
    assert [course.is_restart(stamp) for stamp in (99, 100, 99 + AFTER, 100 + AFTER)] == [False, True, True, False]


def test_the_memory_of_a_minute_is_its_most():
    """A sample is taken each five seconds, and the last minute may have fewer."""
    course = Course([{"cache": size, "probe": 1} for size in (*range(12), 20, 10)])
    assert course.minutes() == [{"cache": 11, "probe": 1}, {"cache": 20, "probe": 1}]
    assert Course().minutes() == []


def test_the_peaks_of_memory_are_those_of_two_thirds():
    """The memory of the first third, in which tables fill, is left out."""
    course = Course([{"cache": size} for size in (9, 9, 5, 6, 7, 4)])
    assert course.peaks() == {"cache": (6, 7)}
    assert Course([{"cache": 1}]).peaks() == {}
