"""One-edit bugs, each of which a named test must catch.

tests/mutants/*.toml holds them: ``[[mutant]]`` with ``name``, ``file``, ``old`` (found exactly once),
``new`` and ``test`` (a pytest id). Each is applied to a copy of the checkout, never to the checkout;
there is a copy for each core, used again for the next one.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from building.environment import ROOT, Failed, python, say, surroundings

FOLDER = ROOT / "tests" / "mutants"
LEFT_OUT = (".git", ".venv", "dist", "build", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache")
TIMEOUT_S = 300
CLEAN_TIMEOUT_S = 1800  # for all that are named, on the code as it is

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
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        workers = min(os.cpu_count() or 1, len(chosen))
        checkouts: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(workers):
            checkouts.put(_copy(Path(scratch) / str(number)))
        with ThreadPoolExecutor(workers) as pool:
            say("the named tests on the code as it is")
            tests = sorted({mutant.test for mutant in chosen})
            shares = [tests[number::workers] for number in range(workers)]
            if codes := {code for code in pool.map(partial(_tried, checkouts, None), shares) if code}:
                raise Failed(f"the tests must pass before a mutant can fail one (pytest ended with {codes})")
            say("one bug at a time")
            verdicts = list(pool.map(partial(_judged, checkouts), chosen))
    caught = verdicts.count(True)
    print(f"{caught} of {len(chosen)} caught in {time.monotonic() - started:.0f} s")
    return 0 if caught == len(chosen) else 1


def _judged(checkouts: queue.SimpleQueue[Path], mutant: Mutant) -> bool:
    """Whether its test catches the mutant; says so."""
    started = time.monotonic()
    code = _tried(checkouts, mutant, [mutant.test])
    verdict = {TESTS_FAILED: "caught", TESTS_PASSED: "SURVIVED"}.get(code, f"NOT JUDGED ({code})")
    print(f"{verdict:10} {mutant.name}  ({time.monotonic() - started:.1f} s)", flush=True)
    return code == TESTS_FAILED


def _tried(checkouts: queue.SimpleQueue[Path], mutant: Mutant | None, tests: Sequence[str]) -> int:
    """pytest's exit code in a checkout that nobody else uses; the checkout is clean before and after."""
    checkout = checkouts.get()
    path = checkout / mutant.file if mutant is not None else None
    clean = path.read_bytes() if path is not None and path.exists() else b""
    try:
        if mutant is not None:
            mutant.apply(checkout)
        return _pytest(checkout, tests, CLEAN_TIMEOUT_S if mutant is None else TIMEOUT_S)
    finally:
        if path is not None and clean:
            path.write_bytes(clean)
        checkouts.put(checkout)


def _copy(target: Path) -> Path:
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return target


def _pytest(checkout: Path, tests: Sequence[str], timeout_s: float) -> int:
    surrounding = {**surroundings(), "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    surrounding.setdefault("APPLIANCE_SHARED", str(ROOT.parent / "shared"))
    command = [str(python("dev")), "-m", "pytest", "-q", "-x", "--long", "--no-header", *tests]
    try:
        done = subprocess.run(
            command, cwd=checkout, env=surrounding, capture_output=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return -1
    return done.returncode
