"""Whoever writes a row that readers keep in memory tells it: a forgotten note would be a stale answer."""

import ast
import re

from building.environment import ROOT

STORE = ROOT / "appliance" / "store"
WRITES_KEPT = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) (record|post|post_count|link)\b")
TELLS = re.compile(r"\bchanged\b|\bchanges\(")
# function: why it need not tell
EXCEPTIONS = {
    "records.confirm": "moves the version of a row on, and nothing of it that anybody keeps",
    "records.mention": "a first row of a key that nobody has seen: nobody keeps that an id has no row",
    "takedowns.mark_record": "noted by a trigger of the writer's connection",
}


def test_each_function_that_writes_kept_rows_tells_the_change() -> None:
    silent: list[str] = []
    writers = 0
    for path in sorted(STORE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            words = " ".join(
                part.value
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            if not WRITES_KEPT.search(words):
                continue
            writers += 1
            if not TELLS.search(ast.unparse(node)):
                silent.append(f"{path.stem}.{node.name}")
    assert writers > 10
    assert sorted(silent) == sorted(EXCEPTIONS)
