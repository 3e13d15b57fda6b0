"""The form of this installation: compiled by mypyc, or pure Python (docs/start/install.md)."""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader, PathFinder
from pathlib import Path


def build_form() -> str:
    """Return "compiled" or "pure", by the file from which a module of the image would be loaded."""
    spec = PathFinder.find_spec("store", [str(Path(__file__).parent / "image")])
    return "compiled" if spec is not None and isinstance(spec.loader, ExtensionFileLoader) else "pure"
