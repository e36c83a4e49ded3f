"""docs/failure-modes.md: every number once, and each held by tests that exist and judge something."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.tidy.sources import ROOT, modules, page, tree

PAGE = "docs/failure-modes.md"
NUMBERS = [str(number) for number in range(1, 104)]
DEFECTS = [f"D{number}" for number in range(1, 21)]
# Why no test is needed.
REASON = re.compile(r"\bCannot (occur|apply): \S+")


class Mode(NamedTuple):
    """A row of the page."""

    number: str
    text: str
    tests: list[str]


def rows() -> list[Mode]:
    found = []
    for line in page(PAGE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and re.fullmatch(r"D?\d+", cells[0]):
            assert len(cells) == (4 if cells[0].startswith("D") else 5), line
            found.append(
                Mode(cells[0], " | ".join(cells[1:-1]), re.findall(r"`(\S+?\.py::\S+?)`", cells[-1]))
            )
    return found


def test_every_number_of_the_catalogue_and_of_others_defects_stands_there_once() -> None:
    assert [row.number for row in rows()] == NUMBERS + DEFECTS


def test_each_row_names_a_test_or_says_why_it_cannot_occur() -> None:
    assert [row.number for row in rows() if not row.tests and not REASON.search(row.text)] == []
    assert [row.number for row in rows() if not row.text.split(" | ")[1]] == [], "what holds must be said"


def test_each_named_test_is_found_by_pytest() -> None:
    named = sorted({test for row in rows() for test in row.tests})
    files = sorted({test.partition("::")[0] for test in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--long", "-p", "no:randomly"]
    done = subprocess.run(
        [*command, *(f"tests/{file}" for file in files)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    collected = {line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line}
    collected |= {each.partition("[")[0] for each in collected}

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert [test for test in named if test not in collected] == []


def test_each_named_test_judges_something() -> None:
    assert [test for row in rows() for test in row.tests if not _judges(_function(test), ())] == []


def test_a_test_without_judgement_would_be_noticed() -> None:
    empty = ast.parse("def test_nothing():\n    '''Words.'''\n    x = str(1)\n").body[0]
    useful = ast.parse("def test_it():\n    if True:\n        assert str(1) == '1'\n").body[0]
    assert isinstance(empty, ast.FunctionDef)
    assert isinstance(useful, ast.FunctionDef)

    assert not _judges(empty, ())
    assert _judges(useful, ())


def test_the_defects_that_tests_are_marked_with_are_those_of_the_page() -> None:
    marked: dict[str, set[str]] = {}
    for path in modules("tests"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in node.decorator_list:
                    if (
                        isinstance(decorator, ast.Call)
                        and ast.unparse(decorator.func) == "pytest.mark.defect"
                    ):
                        name = f"{path.relative_to(ROOT / 'tests').as_posix()}::{node.name}"
                        marked.setdefault(ast.literal_eval(decorator.args[0]), set()).add(name)
    told = {row.number: set(row.tests) for row in rows() if row.number in DEFECTS}

    assert set(marked) | {"D8"} == set(DEFECTS)
    assert {number: names - told[number] for number, names in marked.items() if names - told[number]} == {}


@pytest.mark.parametrize("slug", ["position-with-rows", "gap-means-job", "newest-wins"])
def test_the_page_names_invariants_as_they_are_called(slug: str) -> None:
    assert slug in page(PAGE)
    assert f"## {slug}\n" in page("docs/invariants.md")


def _function(test: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The function of a test that pytest names so."""
    file, *names = test.partition("[")[0].split("::")
    scope: ast.AST = tree(ROOT / "tests" / file)
    for name in names:
        body = scope.body if isinstance(scope, ast.Module | ast.ClassDef) else []
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        assert found, f"there is no {test}"
        scope = found[0]
    assert isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef), test
    return scope


@functools.cache
def _helpers() -> dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions of the tests by name."""
    found: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
    for path in modules("tests"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.setdefault(node.name, []).append(node)
    return found


def _judges(function: ast.FunctionDef | ast.AsyncFunctionDef, above: tuple[str, ...]) -> bool:
    """Does it assert, expect an exception, or call what does?"""
    called = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            if name in ("raises", "timeout"):
                return True
            called.add(name)
    return any(
        _judges(helper, (*above, name))
        for name in called - set(above)
        if len(above) < 4
        for helper in _helpers().get(name, [])
    )
