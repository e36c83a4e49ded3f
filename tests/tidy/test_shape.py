"""Code against docs/architecture.md and STYLE: who imports whom, where SQL stands, what a module says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.sources import CODE, ROOT, docstring, layers, modules, part, tree, trees

# In the table and not written yet.
PLANNED: set[str] = set()

PURE = {"protocol", "errors"}
INPUT_AND_OUTPUT = {
    "asyncio", "socket", "sqlite3", "aiosqlite", "httpx", "websockets", "quart", "subprocess", "threading",
}  # fmt: skip

SQL = re.compile(
    r"\bSELECT\b.+\bFROM\b|\bINSERT\s+(OR\s+\w+\s+)?INTO\b|\bUPDATE\s+\w+\s+SET\b|\bDELETE\s+FROM\b"
    r"|\b(CREATE|ALTER|DROP)\s+(UNIQUE\s+)?(TABLE|INDEX|TRIGGER|VIEW)\b|\bPRAGMA\s+\w+",
    re.DOTALL,
)
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common", "base", "core"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def test_imports_point_down_the_table() -> None:
    level = {name: depth for depth, names in enumerate(layers()) for name in names}
    wrong = []
    for path in modules():
        here = part(path)
        if here == "__init__":
            continue
        for line, name in imports(path):
            target = name.split(".")[1] if name.startswith("appliance.") else ""
            if target in ("", "__version__", here):
                continue
            if target not in level or here not in level or level[target] <= level[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {target}")
    assert wrong == []


def test_every_package_is_in_the_table() -> None:
    real = {part(path) for path in modules()} - {"__init__"}
    told = {name for names in layers() for name in names}

    assert real - told == set()
    assert told - real <= PLANNED


def test_devnet_knows_nothing_of_what_it_judges() -> None:
    strangers = {
        name.split(".")[1]
        for path in modules("appliance/devnet")
        for _, name in imports(path)
        if name.startswith("appliance.")
    }

    assert strangers <= {"devnet", "protocol", "clock", "errors"}


def test_the_pure_packages_do_no_input_or_output() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules()
        if part(path) in PURE
        for line, name in imports(path)
        if name.split(".")[0] in INPUT_AND_OUTPUT
    ]
    assert wrong == []


def test_only_the_store_holds_sql() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text[:60]!r}"
        for path in modules()
        if part(path) not in ("store", "devnet")
        for line, text in _strings(tree(path))
        if SQL.search(text)
    ]
    assert wrong == []


def _strings(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            pieces = [str(each.value) if isinstance(each, ast.Constant) else "x" for each in node.values]
            yield node.lineno, "".join(pieces)


def test_the_sql_rule_would_notice() -> None:
    for text in (
        "SELECT id\n FROM actor",
        "INSERT INTO actor (did) VALUES (?)",
        "INSERT OR REPLACE INTO meta",
        "UPDATE repo SET state = ?",
        "DELETE FROM link",
        "PRAGMA user_version",
        "CREATE UNIQUE INDEX a ON b",
    ):
        assert SQL.search(text), text
    assert not SQL.search("Select a post from the list, or update your settings.")


def test_every_module_tells_its_purpose_in_one_line() -> None:
    wrong = []
    for folder in ("appliance", "building", "tests", "bench"):
        for path, module in trees(modules(folder)):
            first = docstring(module)
            if folder == "tests" and path.name.startswith(("test_", "conftest")):
                continue
            if not first.endswith((".", ":", ",", ";")) and not (ast.get_docstring(module) or "").strip():
                wrong.append(f"{path.relative_to(ROOT)}: {first!r}")
    assert wrong == []


def test_init_modules_hold_a_docstring_and_no_code() -> None:
    wrong = []
    for path, module in trees(modules()):
        if path.name != "__init__.py":
            continue
        rest = module.body[1:] if docstring(module) else module.body
        if path.parent == CODE:
            rest = [node for node in rest if not isinstance(node, ast.Assign)]
        if rest:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_names_say_what_a_module_is_for() -> None:
    assert [str(path) for path in modules() if path.stem in VAGUE] == []


def test_unfinished_work_says_what_must_happen_first() -> None:
    mark = "TO" + "DO"
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("appliance", "building", "tests", "bench")
        for path in modules(folder)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(rf"\b({mark}(?!\([^)]+\))|FIX" + r"ME|XX" + r"X\b)", line)
    ]
    assert wrong == []
