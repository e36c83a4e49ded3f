"""The documentation against the code: generated pages, commands, invariants, tables, trees."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from appliance import __version__
from appliance.cli import commands
from tests.tidy import generated
from tests.tidy.sources import LEFT_BY_TOOLS, ROOT, block_after, files, layers, modules, page, part, tree
from tests.tidy.test_shape import PLANNED
from tests.tidy.unserved import WHY_NOT

# Owners of tables whose packages are not written yet.
PLANNED_OWNERS = {"labels"}
SLUG = r"[a-z]+(?:-[a-z]+)+"


@pytest.mark.parametrize("name", generated.PAGES)
def test_a_generated_page_is_as_the_code_is(name: str) -> None:
    assert page(name) == generated.PAGES[name](), "run: python3 build.py docs"


def test_every_setting_says_what_it_does() -> None:
    told = list(generated.settings())

    assert len(told) > 20
    assert [name for name, _, _, about in told if not about.endswith(".")] == []


def test_the_page_of_metrics_holds_what_a_process_tells() -> None:
    """The list is read from the code; the registry of a process that has loaded all of it is the judge."""
    script = (
        "import importlib, pkgutil, json, appliance\n"
        "from appliance import telemetry\n"
        "for module in pkgutil.walk_packages(appliance.__path__, 'appliance.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(json.dumps([family.name for family in telemetry.REGISTRY.collect()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    told = {f"appliance_{metric.name}" for metric in generated.metrics()}
    assert told == set(json.loads(done.stdout))
    assert [metric.name for metric in generated.metrics() if not metric.about.endswith(".")] == []
    assert len(told) > 40


def test_the_list_of_routes_holds_what_every_instance_answers() -> None:
    paths = {route.path for route in generated.routes()}

    assert {"/", "/login", "/health", "/ready", "/metrics", "/profile/<actor>"} <= paths
    assert {"/xrpc/app.bsky.feed.getTimeline", "/xrpc/_health"} <= paths


def test_every_method_of_the_schemas_is_answered_or_it_is_said_why_not() -> None:
    methods = generated.xrpc_methods()

    assert len(methods) > 250
    assert [method.nsid for method in methods if not method.about] == []
    silent = [method.nsid for method in methods if method.status == "501"]
    used = {max((b for b in WHY_NOT if nsid.startswith(b)), key=len) for nsid in silent}
    assert used == WHY_NOT.keys()


def test_every_command_is_in_the_operator_s_page() -> None:
    told = page("docs/operating.md")

    assert [name for name in _commands(commands) if f"`{name}`" not in told] == []


def _commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_every_command_says_what_it_does() -> None:
    assert [name for name, command in commands.commands.items() if not command.help] == []


def test_the_readme_draws_the_tree_as_it_is() -> None:
    lines = block_after(page("README.md"), "## The tree")
    top = {line.split()[0].rstrip("/") for line in lines if line and not line.startswith(" ")}
    inside = {line.split()[0].rstrip("/") for line in lines if re.match(r"  \S", line)}

    real_top = {path.relative_to(ROOT).parts[0] for path in files()} - LEFT_BY_TOOLS
    real_inside = {part(path) for path in modules()} - {"__init__"}
    assert top == {name for name in real_top if not name.startswith(".") or name == ".ci"}
    assert real_inside - inside == set()
    assert inside - real_inside <= PLANNED


def test_each_invariant_has_a_test_and_each_marked_test_an_invariant() -> None:
    held, later = _invariants()
    marked: dict[str, list[str]] = {}
    for path in modules("tests"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.invariant":
                marked.setdefault(ast.literal_eval(node.args[0]), []).append(path.name)

    assert set(held) == set(marked), "docs/invariants.md and @pytest.mark.invariant differ"
    assert set(held) & set(later) == set()
    for slug, text in held.items():
        named = set(re.findall(r"test_\w+\.py", text))
        assert named, f"{slug} names no test"
        assert named <= set(marked[slug]), slug


def test_what_code_claims_to_keep_is_an_invariant() -> None:
    held, later = _invariants()
    known = {*held, *later}
    claims: list[tuple[str, str]] = []
    for path in modules():
        text = ast.get_docstring(tree(path)) or ""
        for sentence in re.findall(r"Keeps: (.*?)(?:\.\s|\.?$)", text, re.DOTALL):
            items = re.split(r",\s+|\s+\(", sentence)
            claims += [(str(path.relative_to(ROOT)), item) for item in items if re.fullmatch(SLUG, item)]
    for _, comment in _tables():
        about = comment.split("·")
        claims += [
            ("schema.sql", slug) for part in about[2:] for slug in re.findall(rf"^ ?({SLUG})[,:.]", part)
        ]

    assert len(claims) > 5
    assert [claim for claim in claims if claim[1] not in known] == []


def _invariants() -> tuple[dict[str, str], dict[str, str]]:
    """Slug and text of what holds, and of what comes later."""
    holds, _, later = page("docs/invariants.md").partition("\n# Later\n")

    def read(text: str) -> dict[str, str]:
        return dict(re.findall(rf"^## ({SLUG})\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL))

    return read(holds), read(later)


def test_each_table_names_its_owner_and_how_precious_it_is() -> None:
    owners = {name for names in layers() for name in names}
    tables = list(_tables())

    assert len(tables) > 15
    for name, comment in tables:
        match = re.match(r"owner: (.+?) · (index|private|state)\b[^·]*· \S", comment)
        assert match, f"{name}: {comment!r}"
        named = set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", match[1]))) - {"and"}
        assert named, name
        assert named <= owners | PLANNED_OWNERS, f"{name}: {named - owners}"


def _tables() -> Iterator[tuple[str, str]]:
    comment: list[str] = []
    for line in page("schema.sql").splitlines():
        if line.startswith("-- "):
            comment.append(line.removeprefix("-- ").strip())
        elif match := re.match(r"CREATE TABLE (\w+)", line):
            start = max((i for i, text in enumerate(comment) if text.startswith("owner:")), default=0)
            yield match[1], " ".join(comment[start:])
            comment = []
        elif not line.strip():
            comment = []


def test_the_changelog_tells_of_this_version() -> None:
    first = re.search(r"^## (\S+)", page("CHANGELOG.md"), re.MULTILINE)

    assert first
    assert first[1] == __version__


def test_links_between_pages_lead_somewhere() -> None:
    wrong = []
    for path in files():
        if path.suffix != ".md":
            continue
        wrong += [
            f"{path.relative_to(ROOT)}: {target}"
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
            if "://" not in target and not (path.parent / target).exists()
        ]
    assert wrong == []


def test_files_that_pages_name_exist() -> None:
    wrong = []
    for name in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        named = re.findall(r"`((?:appliance|tests|docs|building|requirements|systemd)/[\w./-]+)`", page(name))
        wrong += [f"{name}: {target}" for target in named if not (ROOT / target).exists()]
    assert wrong == []
