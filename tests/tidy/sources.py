"""The checkout as the tidy tests see it: its files, its modules, and what stands in them."""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "appliance"

# What tools leave in a checkout; .gitignore says the same.
LEFT_BY_TOOLS = {
    ".git", ".venv", "dist", "data", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis",
    ".benchmarks", "node_modules", "__pycache__",
}  # fmt: skip


@functools.cache
def files() -> list[Path]:
    """Every file that belongs to the project."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - LEFT_BY_TOOLS)
        found += [Path(folder) / name for name in sorted(names) if not name.endswith(".pyc")]
    return [path for path in found if path.name != ".git"]


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of each file that is text."""
    for path in files():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def modules(folder: str = "appliance") -> list[Path]:
    """The Python files of a folder."""
    return [path for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text("utf-8"), str(path))


def trees(paths: Iterable[Path]) -> Iterator[tuple[Path, ast.Module]]:
    """Each module with its syntax tree."""
    for path in paths:
        yield path, tree(path)


def part(path: Path) -> str:
    """The package, or top-level module, that a file of the appliance belongs to."""
    first = path.relative_to(CODE).parts[0].removesuffix(".py")
    return {"__main__": "cli"}.get(first, first)


def docstring(node: ast.AST) -> str:
    """The first line of a docstring."""
    assert isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return (ast.get_docstring(node) or "").partition("\n")[0]


def page(name: str) -> str:
    """A page of the documentation."""
    return (ROOT / name).read_text("utf-8")


def block_after(text: str, heading: str) -> list[str]:
    """The lines of the first fenced block after a heading."""
    _, found, rest = text.partition(f"{heading}\n")
    assert found, f"there is no heading {heading}"
    match = re.search(r"^```\w*\n(.*?)^```", rest, re.MULTILINE | re.DOTALL)
    assert match, f"there is no block after {heading}"
    return match[1].splitlines()


def layers() -> list[list[str]]:
    """The lines of architecture.md's table of packages, the uppermost first."""
    lines = block_after(page("docs/architecture.md"), "## Packages")
    # Names stand two spaces apart; what they are for comes after a wider gap.
    return [re.split(r" {3,}", line.strip())[0].split("  ") for line in lines if line.strip()]
