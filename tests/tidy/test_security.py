"""docs/security.md: every number of the catalogue of abuse once, held by a test, or with a reason."""

import ast
import re

from tests.tidy.sources import ROOT, page

NUMBERS = [f"T{number}" for number in range(1, 131)]
REASON = re.compile(r"(Not needed: |Open: issue 5, )\S")


def rows() -> list[list[str]]:
    lines = page("docs/security.md").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| T\d", line)
    ]


def named(cell: str) -> list[str]:
    return re.findall(r"`(\S+?\.py::\S+?)`", cell)


def test_every_number_stands_there_once() -> None:
    assert [row[0] for row in rows()] == NUMBERS


def test_each_number_has_a_test_or_a_reason_and_not_both() -> None:
    wrong = [row for row in rows() if len(row) != 3 or bool(named(row[2])) == bool(REASON.match(row[2]))]
    assert wrong == []


def test_each_named_test_exists_and_judges_something() -> None:
    tests = {test for row in rows() for test in named(row[2])}
    assert len(tests) > 100
    found = set()
    for file in {test.partition("::")[0] for test in tests}:
        for node in ast.walk(ast.parse((ROOT / "tests" / file).read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                text = ast.unparse(node)  # ``child`` holds what a decoder may do
                if any(judged in text for judged in ("assert", "pytest.raises", "await child(")):
                    found.add(f"{file}::{node.name}")
    assert sorted(tests - found) == []
