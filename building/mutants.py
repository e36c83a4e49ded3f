"""One-edit bugs, each of which a named test must catch.

tests/mutants/*.toml holds them: ``[[mutant]]`` with ``name``, ``file``, ``old`` (found exactly once),
``new`` and ``test`` (a pytest id). Each is applied to a copy of the checkout, never to the checkout.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from building.environment import ROOT, Failed, python, say, surroundings

FOLDER = ROOT / "tests" / "mutants"
LEFT_OUT = (".git", ".venv", "dist", "build", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache")
TIMEOUT_S = 300

TESTS_PASSED, TESTS_FAILED = 0, 1  # pytest's exit codes; any other means that no test judged


@dataclass(frozen=True)
class Mutant:
    """A bug that somebody could make."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, checkout: Path) -> None:
        """Make the edit. Raises Failed when its place has changed."""
        path = checkout / self.file
        text = path.read_text() if path.exists() else ""
        if text.count(self.old) != 1:
            raise Failed(f"{self.name}: its text is {text.count(self.old)} times in {self.file}, not once")
        path.write_text(text.replace(self.old, self.new))


def load(folder: Path = FOLDER) -> list[Mutant]:
    """Every mutant of the folder."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        for table in tomllib.loads(path.read_text()).get("mutant", []):
            try:
                found.append(Mutant(**table))
            except TypeError as error:
                raise Failed(f"{path.name}: {table.get('name', '?')}: {error}") from error
    return found


def run_all(arguments: Sequence[str]) -> int:
    """Try every mutant whose name, file or test holds one of the arguments; all without arguments."""
    chosen = [
        mutant
        for mutant in load()
        if not arguments or any(word in f"{mutant.name} {mutant.file} {mutant.test}" for word in arguments)
    ]
    if not chosen:
        raise Failed("no mutant has such a name")
    python("dev")
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        clean = _copy(Path(scratch) / "clean")
        say("the named tests on the code as it is")
        if (code := _pytest(clean, sorted({mutant.test for mutant in chosen}))) != TESTS_PASSED:
            raise Failed(f"the tests must pass before a mutant can fail one (pytest ended with {code})")
        for mutant in chosen:
            started = time.monotonic()
            edited = _copy(Path(scratch) / "edited")
            mutant.apply(edited)
            code = _pytest(edited, [mutant.test])
            shutil.rmtree(edited)
            verdict = {TESTS_FAILED: "caught", TESTS_PASSED: "SURVIVED"}.get(code, f"NOT JUDGED ({code})")
            print(f"{verdict:10} {mutant.name}  ({time.monotonic() - started:.1f} s)", flush=True)
            if code != TESTS_FAILED:
                survivors.append(mutant)
    print(f"{len(chosen)} mutants, {len(chosen) - len(survivors)} caught")
    return 1 if survivors else 0


def _copy(target: Path) -> Path:
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return target


def _pytest(checkout: Path, tests: Sequence[str]) -> int:
    surrounding = {**surroundings(), "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    surrounding.setdefault("APPLIANCE_SHARED", str(ROOT.parent / "shared"))
    command = [str(python("dev")), "-m", "pytest", "-q", "-x", "--long", "--no-header", *tests]
    try:
        done = subprocess.run(
            command, cwd=checkout, env=surrounding, capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return -1
    return done.returncode
