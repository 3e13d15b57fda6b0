from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from dnstrail.image import store
from live.processes import PATIENCE, dnstrail

ROOT = Path(__file__).parents[1]
COMPLETES = "_dnstrail_completion dnstrail"  # the function of the shell, for a command
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {
    ROOT / "shared/dnstrail",
    *(folder for folder in (ROOT / "services").glob("*/dnstrail_*") if folder.is_dir()),
}


def test_every_package_is_named_wherever_it_has_to_be():
    """The wheel, the editable install, mypy and import-linter all know each package of the tree, and no other."""
    hatch = PROJECT["tool"]["hatch"]["build"]
    names = {package.name for package in PACKAGES}
    assert {ROOT / path for path in hatch["targets"]["wheel"]["packages"]} == PACKAGES
    assert {ROOT / path for path in hatch["dev-mode-dirs"]} == {package.parent for package in PACKAGES}
    assert {ROOT / path for path in PROJECT["tool"]["mypy"]["mypy_path"]} == {package.parent for package in PACKAGES}
    assert set(PROJECT["tool"]["mypy"]["packages"]) == names
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == names


def test_every_compiled_module_exists():
    """The modules that mypyc compiles are in the tree, each named once."""
    hook = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    assert len(set(hook["modules"])) == len(hook["modules"])
    assert all((ROOT / hook["folder"] / module).is_file() for module in hook["modules"])


def test_version_names_the_form():
    """`dnstrail --version` says whether the image that this installation loads is compiled."""
    form = "pure" if store.__file__.endswith(".py") else "compiled"
    assert dnstrail("--version").stdout.strip().endswith(f"({form})")


def test_wheel_holds_every_file(tmp_path):
    """A wheel that is built holds every module, type marker, list and capture of all packages."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    expected = {
        str(file.relative_to(package.parent))
        for package in PACKAGES
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert expected <= held
    assert "dnstrail/py.typed" in held


def test_entry_points_load():
    """The console script and every built-in signature load, and each signature file has its entry point."""
    for script in importlib.metadata.entry_points(group="console_scripts", name="dnstrail"):
        assert callable(script.load())
    loaded = {entry.load().__module__ for entry in importlib.metadata.entry_points(group="dnstrail.signatures")}
    builtin = ROOT / "services/signatures/dnstrail_signatures/builtin"
    assert {f"dnstrail_signatures.builtin.{file.stem}" for file in builtin.glob("[a-z]*.py")} <= loaded


@pytest.mark.parametrize("worker", ["probe", "cache", "signatures", "findings", "history", "web", "run", "cli"])
def test_every_worker_runs_as_a_module(worker):
    """`python -m dnstrail_<worker> --help` works for every worker."""
    command = [sys.executable, "-m", f"dnstrail_{worker}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "Usage" in done.stdout


def test_demo_capture_is_what_its_maker_makes():
    """The bundled capture is just what its script makes."""
    spec = importlib.util.spec_from_file_location("make_demo_capture", ROOT / "deploy/make_demo_capture.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (ROOT / "services/probe/dnstrail_probe/sources/demo.pcap").read_bytes() == maker.capture()


def test_type_errors_are_hardly_ever_waved_through():
    """Mypy is told to look away in five places at most, each with its reason in the code."""
    sources = [file.read_text() for package in PACKAGES for file in package.rglob("*.py")]
    assert sum(len(re.findall(r"#\s*type:\s*ignore", text)) for text in sources) <= 5


def test_a_public_class_has_a_name_of_its_own():
    """No two public classes have one name: a reader who finds the name has found the meaning."""
    trees = [ast.parse(file.read_text()) for package in PACKAGES for file in package.rglob("*.py")]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("_")] == []


def test_files_stay_small():
    """No file has more than 400 lines."""
    long = [file for package in PACKAGES for file in package.rglob("*.py") if len(file.read_text().splitlines()) > 400]
    assert long == []


def test_the_debian_package_completes_commands(tmp_path):
    """The build puts the completion of each shell where its package looks for it; bash loads and uses it."""
    build = (ROOT / "deploy/build-deb.sh").read_text()
    [step] = re.findall(r"^for place in bash:.*?^done$", build, re.MULTILINE | re.DOTALL)
    home = Path(sys.executable).parents[1]
    subprocess.run(["sh", "-euc", f"package={tmp_path} home={home}\n{step}"], check=True, timeout=PATIENCE)
    share = tmp_path / "usr/share"
    bash = share / "bash-completion/completions/dnstrail"
    assert "#compdef dnstrail" in (share / "zsh/vendor-completions/_dnstrail").read_text()
    assert "complete" in (share / "fish/vendor_completions.d/dnstrail.fish").read_text()
    ask = f'. {bash}; COMP_WORDS=(dnstrail hea) COMP_CWORD=1; {COMPLETES}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    environment = {"PATH": f"{home / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", ask], env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout == "health\n"
