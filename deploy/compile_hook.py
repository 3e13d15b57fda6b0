"""The build hook that compiles what each event costs by mypyc if DNSTRAIL_MYPYC is 1 (docs/start/install.md)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILER = ["mypy>=1.11", "setuptools"]  # for the build alone
SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
modules = mypycify(["--follow-imports=silent", *sys.argv[1:]], group_name="dnstrail", debug_level="0")
setup(name="dnstrail", packages=[], ext_modules=modules, script_args=["build_ext", "--inplace"])
"""


class CompileHook(BuildHookInterface):
    """Adds the compiled modules of the table `modules` to the wheel, beside their source; else the wheel is pure."""

    PLUGIN_NAME = "custom"
    _built: TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """Return the requirements of a build that compiles: mypyc reads the types of what dnstrail needs."""
        return [*COMPILER, *self.metadata.core.dependencies] if self._compiles() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the modules, and add them to a wheel that is no editable one."""
        if version == "editable" or not self._compiles():
            return
        self._built = TemporaryDirectory()
        folder = Path(self._built.name) / "source"
        for packages in self.config["folders"]:
            shutil.copytree(
                Path(self.root) / packages, folder, ignore=shutil.ignore_patterns("*.so"), dirs_exist_ok=True
            )
        compile_modules(folder, self.config["modules"])
        build_data["pure_python"], build_data["infer_tag"] = False, True
        for module in folder.rglob("*.so"):
            if "build" not in module.relative_to(folder).parts:
                build_data["force_include"][str(module)] = str(module.relative_to(folder))

    def finalize(self, *_: object) -> None:
        """Remove the compiled modules that the wheel now contains."""
        if self._built is not None:
            self._built.cleanup()

    def _compiles(self) -> bool:
        if os.environ.get("DNSTRAIL_MYPYC") != "1":
            return False
        missing = missing_tool()
        if missing:
            self.app.display_warning(f"dnstrail is not compiled: no {missing}")
        return not missing


def missing_tool() -> str:
    """Return the tool that compiling needs and this host lacks, "" if it lacks none."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"C compiler {compiler}"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if header.exists() else str(header)


def compile_modules(folder: Path, modules: list[str]) -> None:
    """Compile modules in place, together, so that calls between them are native.

    Raises:
        RuntimeError: mypyc failed; the error contains its output.
    """
    command = [sys.executable, "-c", SETUP, *modules]
    done = subprocess.run(  # noqa: S603 - the modules stand in pyproject.toml
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"mypyc failed:\n{done.stdout}{done.stderr}")
