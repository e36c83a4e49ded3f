"""The environment in .venv: made from the lock, and made anew when the lock or the Python changes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
SCRATCH = ROOT / "build"

# Each holds everything in the one before it, at the same versions.
LAYERS = ("build", "dev")

# Published as source only. It is pure Python, so what setuptools makes of it suits every target.
SOURCE_ONLY = ("grapheme",)


class Failed(Exception):
    """Something that the person at the keyboard can put right; the message says how."""


def say(text: str) -> None:
    """A line of progress."""
    print(f"· {text}", file=sys.stderr, flush=True)


def python(layer: str) -> Path:
    """The interpreter of an environment that holds at least this layer."""
    lock = REQUIREMENTS / f"{layer}.lock"
    with alone("environment"):
        present = _stamp()
        if present in (_wanted(other) for other in LAYERS[LAYERS.index(layer) :]):
            return _interpreter()
        if present not in (_wanted(other) for other in LAYERS):
            _create()
        say(f"installing {lock.relative_to(ROOT)}")
        _install(lock)
        (VENV / "stamp").write_text(_wanted(layer))
    return _interpreter()


def install_extra(name: str) -> None:
    """Add another lock to the environment, for tools that few commands need."""
    with alone("environment"):
        mark = VENV / f"stamp-{name}"
        lock = REQUIREMENTS / f"{name}.lock"
        if mark.exists() and mark.read_text() == _digest(lock):
            return
        say(f"installing {lock.relative_to(ROOT)}")
        _pip("--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(lock))
        mark.write_text(_digest(lock))


def run(arguments: Sequence[str | Path], *, layer: str = "dev", cwd: Path = ROOT) -> int:
    """Run the environment's Python on this checkout, and return its exit code."""
    return subprocess.run([python(layer), *arguments], cwd=cwd, env=surroundings(), check=False).returncode


def surroundings() -> dict[str, str]:
    """The variables under which the checkout's code runs."""
    own = {"PYTHONPATH": str(ROOT), "VIRTUAL_ENV": str(VENV)}
    return {**os.environ, **own, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def pinned(lock: str) -> dict[str, str]:
    """Name and version of each line of a lock."""
    text = (REQUIREMENTS / f"{lock}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ \\\n;]+)", text, re.MULTILINE))


def _interpreter() -> Path:
    return VENV / "bin" / "python"


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _wanted(layer: str) -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{layer} {_digest(REQUIREMENTS / f'{layer}.lock')} {version} {sys.base_prefix}\n"


def _stamp() -> str:
    with contextlib.suppress(OSError):
        if os.access(_interpreter(), os.X_OK):
            return (VENV / "stamp").read_text()
    return ""


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time between those that use the same name."""
    SCRATCH.mkdir(exist_ok=True)
    with (SCRATCH / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _create() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Failed(
            f"this Python has no module {missing[0]}, which makes the environment.\n"
            f"On Debian and Ubuntu: apt install python3-venv   (or python{version}-venv)"
        )
    say(f"making {VENV.relative_to(ROOT)} with Python {sys.version.split()[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise Failed(f"the environment can't be made:\n{made.stdout.decode(errors='replace').strip()}")


def _install(lock: Path) -> None:
    hashed = ("--require-hashes", "--no-deps", "--only-binary=:all:")
    sources = [f"--no-binary={name}" for name in SOURCE_ONLY]
    # First what builds the packages that come as source, so that nothing unlocked is fetched for it.
    first = SCRATCH / "first.lock"
    first.write_text(_entry(lock, "setuptools"))
    _pip(*hashed, "-r", str(first))
    _pip(*hashed, *sources, "--no-build-isolation", "-r", str(lock))


def _entry(lock: Path, name: str) -> str:
    found = re.search(rf"^{name}==.*(?:\n .*)*", lock.read_text(), re.MULTILINE)
    if found is None:
        raise Failed(f"{lock.name} has no {name}")
    return found.group() + "\n"


def _pip(*arguments: str) -> None:
    command = [
        str(_interpreter()),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *arguments,
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = done.stdout.decode(errors="replace").splitlines()
        told = "\n".join(line for line in lines if not line.startswith("WARNING: Location"))
        raise Failed(f"the packages can't be installed (is the package index reachable?):\n{told}")
