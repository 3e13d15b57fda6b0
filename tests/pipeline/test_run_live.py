"""`dnstrail run` on the real kernel: its report beside what the servers saw, its output beside a run without it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.kernel.cgroups import find_cgroup2
from live.namespaces import CLIENT, SENDER, SERVER, Hosts, hosts, live_or_skip
from live.pipelines import Run, pipeline
from live.processes import PATIENCE, alive, wait_until
from live.run_commands import RUN, WEB_SERVER, asking_folder, on_client, within
from live.server_process import serving

SCRIPT = f"""
{sys.executable} asks.py one.google.com two.google.com one.google.com
setsid -f {sys.executable} asks.py far.google.com
( {sys.executable} asks.py three.google.com & wait )
{sys.executable} asks.py {SENDER}
getent hosts no-such-name.test
dig +tries=1 +timeout=1 @{SENDER} elsewhere.test > dig.out
cat
echo done >&2
exit 7
"""

WITH_SIGNALS = ("env", "--default-signal=INT,QUIT")  # a job in the background ignores them


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts; every name below google.com has the address of the server."""
    live_or_skip("dig")
    with hosts() as both:
        yield both


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with the script of the client."""
    with asking_folder() as made:
        yield made


def test_the_report_is_what_the_servers_saw(network, folder):
    """Each connection that the server accepted is in the report with its name and process, and no other one is."""
    with serving(network, folder / "seen", *WEB_SERVER) as seen:
        plain = on_client(network, folder, "sh", "-c", SCRIPT)
        wait_until(lambda: len(seen.read_text().splitlines()) == 7, "the connections without dnstrail")
        options = ("--report", "r.json", "--report", "r.html", "--report", "r.md", "--wait-for-all", "--quiet")
        done = on_client(network, folder, *RUN, *options, "--", "sh", "-c", SCRIPT)
        assert done.returncode == 7, done.stderr
        wait_until(lambda: len(seen.read_text().splitlines()) == 13, "the connections")
        lines = [line.split() for line in seen.read_text().splitlines()[7:]]
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # a worker of a busy host may warn
    assert (done.returncode, done.stdout, said) == (plain.returncode, plain.stdout, plain.stderr.splitlines())
    assert (plain.returncode, plain.stdout, plain.stderr) == (7, "from stdin\n", "done\n")
    report = json.loads((folder / "r.json").read_text())
    expected = Counter((client, int(pid), "" if name == SENDER else name) for client, pid, name in lines)
    found: Counter[tuple[str, int, str]] = Counter()
    lengths = {(int(pid), "" if name == SENDER else name): len(f"{pid} {name}") for _, pid, name in lines}
    for one in report["connections"]:
        sent = one["results"]["connected"] * lengths[one["program"]["pid"], one["name"]]
        assert (one["bytes_sent"], one["bytes_received"], one["bytes_unknown"]) == (sent, 0, 0)
        assert (one["address"], one["port"]) == (SERVER if one["name"] else SENDER, 80)
        assert one["results"].keys() == {"connected"}
        found[(CLIENT, one["program"]["pid"], one["name"])] += one["results"]["connected"]
    assert found == expected
    outcomes = {one["name"]: one["outcome"] for one in report["names"]}
    assert outcomes == {
        **dict.fromkeys(("one.google.com", "two.google.com", "three.google.com", "far.google.com"), "answered"),
        "no-such-name.test": "refused",
        "elsewhere.test": "unanswered",
    }
    assert [(one["address"], one["questions"]) for one in report["foreign_dns"]] == [(SENDER, 1)]
    assert [one["address"] for one in report["unnamed"]] == [SENDER]
    assert (report["coverage"]["complete"], report["left"], report["exit_code"]) == (True, 0, 7)
    assert "one.google.com" in (folder / "r.html").read_text() + (folder / "r.md").read_text()


def test_the_bytes_of_an_open_connection_are_unknown(network, folder, watched):
    """A connection that a process holds beyond the end of the command has no bytes, not zero."""
    holds = (
        "import socket, time; sock = socket.create_connection(('one.google.com', 80)); sock.send(b'x'); "
        "open('held', 'w').close(); time.sleep(60)"
    )
    script = f'{sys.executable} -c "{holds}" > /dev/null 2>&1 & echo $!; until [ -e held ]; do sleep 0.05; done'
    with serving(network, folder / "seen", *WEB_SERVER):
        run = (*RUN, "--report", "r.json", "--", "sh", "-c", script)
        done = on_client(network, folder, *run, run_dir=watched.folder)
        os.kill(int(done.stdout), signal.SIGKILL)
    [one] = json.loads((folder / "r.json").read_text())["connections"]
    assert (one["bytes_sent"], one["bytes_received"], one["bytes_unknown"]) == (None, None, 1)
    assert "bytes unknown" in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def watched(network) -> Iterator[Run]:
    """Yield a pipeline that runs already."""
    with pipeline("--output", "json") as running:
        yield running


def test_a_running_pipeline_is_used(network, folder, watched):
    """With a pipeline in the run-dir no other one is started, and the report is as complete."""
    before = watched.stats()["probes"].keys()
    with serving(network, folder / "seen", *WEB_SERVER):
        command = (*RUN, "--report", "r.json", "--", sys.executable, "asks.py", "joined.google.com")
        done = on_client(network, folder, *command, run_dir=watched.folder)
    assert done.returncode == 0, done.stderr
    assert watched.stats()["probes"].keys() == before
    report = json.loads((folder / "r.json").read_text())
    assert [one["name"] for one in report["connections"]] == ["joined.google.com"]
    assert report["coverage"]["complete"]


@pytest.mark.parametrize(
    ("options", "names", "code"),
    [
        (["--allow", "allowed"], ["one.google.com"], 0),
        (["--allow", "allowed"], ["one.google.com", "evil.google.com"], 10),
        (["--allow", "allowed"], [SERVER], 10),
        (["--fail-on", "unnamed"], [SERVER], 10),
    ],
)
def test_the_exit_code_is_the_verdict(network, folder, watched, options, names, code):
    """Something outside the list makes the exit code 10: a name, or an address that only other processes asked for."""
    (folder / "allowed").write_text("one.google.com:80 # the only one\n")
    with serving(network, folder / "seen", *WEB_SERVER):
        command = (*RUN, *options, "--", sys.executable, "asks.py", *names)
        done = on_client(network, folder, *command, run_dir=watched.folder)
    assert done.returncode == code, done.stderr
    assert ("Not allowed" in done.stderr or "Failed" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 4), ("exit 3", 3), (f"exec {sys.executable} asks.py evil.google.com", 10)]
)
def test_a_file_that_cannot_be_written(network, folder, watched, script, code):
    """A full disk is named once, costs no other report, and changes the exit code only if nothing else has failed."""
    (folder / "allowed").write_text("one.google.com\n")
    (folder / "full.json").symlink_to("/dev/full")
    options = ("--allow", "allowed", "--report", "full.json", "--report", "r.json", "--allow-learn", "learned")
    with serving(network, folder / "seen", *WEB_SERVER):
        done = on_client(network, folder, *RUN, *options, "--", "sh", "-c", script, run_dir=watched.folder)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("dnstrail: --report full.json: No space left on device\n") == 1
    assert done.stderr.count("No space left") == 1
    report = json.loads((folder / "r.json").read_text())
    assert report["exit_code"] == (code if code == 3 else 0)
    assert (folder / "learned").read_text().splitlines()[1:] == (["evil.google.com:80"] if code == 10 else [])
    assert "connection" in done.stderr, "the table"


FORGED = """
rm out/a.json; echo '{}' > out/a.json
echo forged > forged; ln -sf ../forged out/b.md
echo forged >> out/c.html
mv out old; mkdir out; cp old/* out
echo '#' > out/learned
"""


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("caller", ["", "54321"])
def test_the_command_cannot_replace_its_report(network, folder, watched, joins, caller):
    """Reports and list are what dnstrail saw, whatever the command put at their paths; stderr and report name them."""
    (folder / "out").mkdir()
    for made in (folder, folder / "out"):
        os.chown(made, int(caller or 0), int(caller or 0))
    names = ("out/a.json", "out/b.md", "out/c.html")
    options = [word for name in names for word in ("--report", name)]
    script = f"getent hosts one.google.com > /dev/null; {FORGED}"
    run = (*RUN, *options, "--allow-learn", "out/learned", "--quiet", "--", "sh", "-c", script)
    run_dir = watched.folder if joins else Path("/nowhere")
    done = on_client(network, folder, *run, run_dir=run_dir, SUDO_UID=caller, SUDO_GID=caller)
    assert done.returncode == 0, done.stderr
    told = [f"--report {name} was removed or replaced while the command ran: it is written anew." for name in names]
    told.append("--allow-learn out/learned was removed or replaced while the command ran: it is written anew.")
    assert [line for line in done.stderr.splitlines() if line.startswith("dnstrail: ")] == [
        f"dnstrail: {line}" for line in told
    ]
    report = json.loads((folder / "out" / "a.json").read_text())
    assert ([one["name"] for one in report["names"]], report["files"]) == (["one.google.com"], told)
    for name in names[1:]:
        text = (folder / name).read_text()
        assert "one.google.com" in text
        assert "was removed or replaced" in text
    assert (folder / "out" / "learned").read_text().splitlines()[1:] == ["one.google.com"]
    assert {path.stat().st_uid for path in (folder / "out").iterdir()} == {int(caller or 0)}
    assert (folder / "forged").read_text() == "forged\n"


@pytest.mark.parametrize("gone", ["full", "broken"])
def test_a_stderr_that_cannot_be_written(network, folder, watched, gone):
    """The verdict is the exit code, and the report is written, where nothing can be written to stderr."""
    (folder / "allowed").write_text("one.google.com\n")
    reading, writing = os.pipe()
    os.close(reading)
    with serving(network, folder / "seen", *WEB_SERVER), Path("/dev/full").open("w") as full:
        command = (*RUN, "--allow", "allowed", "--report", "r.json", "--", sys.executable, "asks.py", "evil.google.com")
        env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(watched.folder)}
        stderr = full if gone == "full" else writing
        done = subprocess.run(
            within(network, *command), cwd=folder, stderr=stderr, env=env, timeout=PATIENCE, check=False
        )
    os.close(writing)
    assert done.returncode == 10
    assert json.loads((folder / "r.json").read_text())["not_allowed"]


def test_a_learned_list_allows_the_same_run(network, folder, watched):
    """The list that a run made allows the next run of the same command."""
    command = ("--", sys.executable, "asks.py", "one.google.com", "two.google.com")
    with serving(network, folder / "seen", *WEB_SERVER):
        for option in ("--allow-learn", "--allow"):
            done = on_client(network, folder, *RUN, option, "learned", *command, run_dir=watched.folder)
            assert done.returncode == 0, done.stderr
    assert (folder / "learned").read_text().splitlines()[1:] == ["one.google.com:80", "two.google.com:80"]


def test_the_command_is_the_callers_own(network, folder, watched):
    """The command runs as the user who called sudo, without the rights of root; a signal ends it as in a shell."""
    caller = {"SUDO_UID": "54321", "SUDO_GID": "54321", "SUDO_USER": "x"}
    script = "id -u; id -G; echo [$SUDO_UID]; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; kill -TERM $$"
    run = (*RUN, "--quiet", "--", "sh", "-c", script)
    done = on_client(network, folder, *run, run_dir=watched.folder, **caller)
    assert done.stdout.split() == ["54321", "54321", "[]", "CapEff:", "0" * 16, "NoNewPrivs:", "0"]
    assert done.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_reach_the_command(network, folder, watched, number):
    """A signal to dnstrail reaches the command where no terminal sends it, and the report is still written."""
    script = f"trap 'echo caught; exit 5' {number:d}; touch begun; while :; do sleep 0.05; done"
    run = (*WITH_SIGNALS, *RUN, "--report", "r.json", "--quiet", "--", "sh", "-c", script)
    env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(watched.folder)}
    with subprocess.Popen(
        within(network, *run), cwd=folder, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
    ) as process:
        wait_until((folder / "begun").exists, "the command")
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE)[0] == "caught\n"
    assert process.returncode == 5
    assert json.loads((folder / "r.json").read_text())["exit_code"] == 5


def test_ctrl_c_reaches_the_command_once(network, folder, watched):
    """The terminal sends the signal of Ctrl-C to the command, and dnstrail does not send it again."""
    script = "trap 'echo caught' INT; trap 'echo end; exit 5' TERM; touch begun; while :; do sleep 0.05; done"
    env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(watched.folder)}
    command = within(network, *WITH_SIGNALS, *RUN, "--quiet", "--", "sh", "-c", script)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, env)
    with os.fdopen(terminal, "r+b", buffering=0) as screen:
        wait_until((folder / "begun").exists, "the command")
        screen.write(b"\x03")
        shown = b""
        while b"caught" not in shown:
            shown += screen.read(100)
        os.kill(process, signal.SIGTERM)
        while b"end" not in shown:
            shown += screen.read(100)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 5
    assert shown.split() == [b"^Ccaught", b"end"]


def test_ctrl_c_ends_the_wait_for_all(network, folder, watched):
    """An interrupt after the command has ended ends the wait for the processes that outlive it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    report = folder / "r.json"
    script = "sleep 60 & echo $! $$ > begun"
    run = (*RUN, "--report", "r.json", "--quiet", "--wait-for-all", "--", "sh", "-c", script)
    env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(watched.folder)}
    with subprocess.Popen(within(network, *run), cwd=folder, env=env) as process:
        wait_until(lambda: (folder / "begun").exists() and (folder / "begun").read_text(), "the command")
        sleeping, command = map(int, (folder / "begun").read_text().split())
        wait_until(lambda: not alive(command), "the end of the command, which an interrupt would kill")
        wait_until(lambda: report.read_text() or process.send_signal(signal.SIGINT), "the report")
    assert process.returncode == 0
    assert json.loads(report.read_text())["left"] == 1
    os.kill(sleeping, signal.SIGKILL)


def test_nothing_is_left_behind(network, folder, watched):
    """The cgroup is removed, also if a process outlives the command; the report counts that process."""
    script = "sleep 60 > /dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; echo $!"
    script += "; grep ^0:: /proc/self/cgroup"
    done = on_client(
        network, folder, *RUN, "--report", "r.json", "--quiet", "--", "sh", "-c", script, run_dir=watched.folder
    )
    sleeping, path = done.stdout.split()
    os.kill(int(sleeping), signal.SIGKILL)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "r.json").read_text())
    assert (report["left"], report["left_names"]) == (1, [f"sleep({sleeping})"])
    assert "/dnstrail-run-" in path
    assert not Path(find_cgroup2() + path.removeprefix("0::")).exists()
