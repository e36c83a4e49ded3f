"""The commands of build.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from building.environment import ROOT, Failed, run, say

Command = Callable[[Sequence[str]], int]


def main(arguments: Sequence[str], usage: str) -> int:
    """Run one command; its exit code. 2 means that it was not understood."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("-h", "--help", "help"):
        print(usage.strip())
        return 0
    command = COMMANDS.get(name)
    if command is None:
        print(usage.strip(), file=sys.stderr)
        if name:
            print(f"\nThere is no command {name}.", file=sys.stderr)
        return 2
    try:
        return command(rest)
    except Failed as failure:
        print(f"build.py {name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _demo(arguments: Sequence[str]) -> int:
    from building import archive

    target = archive.single()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(target), "demo", *arguments])


def _test(arguments: Sequence[str]) -> int:
    from building import testing

    # Whoever names some wants to watch them.
    if set(arguments) <= {"--long", "-q"}:
        return testing.run_all(arguments)
    return run(["-m", "pytest", *_from_here(arguments)])


def _check(arguments: Sequence[str]) -> int:
    if arguments:
        raise Failed("check takes no arguments")
    steps: list[tuple[str, list[str]]] = [
        ("format", ["-m", "ruff", "format", "--check", "."]),
        ("lint", ["-m", "ruff", "check", "."]),
        ("types", ["-m", "mypy"]),
        ("code and docs against each other", ["-m", "pytest", "-q", "tests/tidy"]),
    ]
    failed = []
    for name, step in steps:
        say(name)
        if run(step) != 0:
            failed.append(name)
    if failed:
        raise Failed("not clean: " + ", ".join(failed))
    say("clean")
    return 0


def _pyz(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["--release"]):
        raise Failed("pyz takes --release or nothing")
    if arguments:
        from building import release

        release.build_all()
    else:
        from building import archive

        archive.single()
    return 0


def _mutants(arguments: Sequence[str]) -> int:
    from building import mutants

    return mutants.run_all(arguments)


def _bench(arguments: Sequence[str]) -> int:
    return run(["-m", "pytest", "bench", "-q", "-s", *_from_here(arguments)])


def _conformance(arguments: Sequence[str]) -> int:
    if not arguments:
        raise Failed("conformance needs at least one FOLDER")
    return run(["-m", "tests.conformance.runner", *_from_here(arguments)])


def _truth(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        raise Failed("truth needs the file that demo --info has written")
    return run(["-m", "tests.journeys.report", *_from_here(arguments)])


def _docs(arguments: Sequence[str]) -> int:
    return run(["-m", "tests.tidy.generated", *arguments])


def _lock(arguments: Sequence[str]) -> int:
    from building import locks

    return locks.lock(arguments)


def _from_here(arguments: Sequence[str]) -> list[str]:
    """Paths as seen from where the command was typed: the tools run in the checkout."""
    if Path.cwd() == ROOT:
        return list(arguments)
    return [
        str(Path(each).absolute()) if not each.startswith("-") and Path(each).exists() else each
        for each in arguments
    ]


COMMANDS: dict[str, Command] = {
    "demo": _demo,
    "test": _test,
    "check": _check,
    "pyz": _pyz,
    "mutants": _mutants,
    "bench": _bench,
    "conformance": _conformance,
    "truth": _truth,
    "docs": _docs,
    "lock": _lock,
}
