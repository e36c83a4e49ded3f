"""build.py as a newcomer meets it."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from building import commands, environment
from building.environment import ROOT
from tests.interpreters import interpreters

BUILD = ROOT / "build.py"


def build(*arguments: str, python: Path = Path(sys.executable), cwd: Path = ROOT) -> tuple[int, str, str]:
    done = subprocess.run(
        [python, BUILD, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def test_every_command_is_in_the_usage() -> None:
    code, out, _ = build("--help")

    assert code == 0
    assert all(f"build.py {name} " in out for name in commands.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "told"), [((), "build.py demo"), (("dmo",), "There is no command dmo.")]
)
def test_what_is_not_understood_ends_with_2(arguments: tuple[str, ...], told: str) -> None:
    code, out, err = build(*arguments)

    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize("version", [v for v in interpreters() if v < (3, 11)], ids=str)
def test_an_old_python_is_told_which_to_take(version: tuple[int, int]) -> None:
    code, _, err = build("test", python=interpreters()[version])

    assert code == 1
    assert "build.py needs Python 3.11 or newer" in err


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_which_package_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "VENV", tmp_path / "venv")
    monkeypatch.setattr(environment, "SCRATCH", tmp_path / "build")
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(environment.Failed) as told:
        environment.python("build")

    assert f"no module {module}" in str(told.value)
    assert "apt install python3-venv" in str(told.value)
    assert not (tmp_path / "venv").exists()


def test_a_tool_s_exit_code_is_the_command_s(tmp_path: Path) -> None:
    failing = tmp_path / "test_failing.py"
    failing.write_text("def test_it():\n    assert False\n")

    code, out, _ = build("test", "-q", "test_failing.py", cwd=tmp_path)

    assert code == 1
    assert "1 failed" in out


def test_the_environment_is_made_anew_only_when_the_lock_or_the_python_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []
    venv, requirements = tmp_path / "venv", tmp_path / "requirements"
    requirements.mkdir()
    for layer in environment.LAYERS:
        (requirements / f"{layer}.lock").write_text("one==1\n")

    def create() -> None:
        done.append("create")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch(0o755)
        (venv / "stamp").unlink(missing_ok=True)

    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "SCRATCH", tmp_path / "build")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "_create", create)
    monkeypatch.setattr(environment, "_install", lambda lock: done.append(lock.name))

    for layer in ("build", "build", "dev", "build", "dev"):
        environment.python(layer)
    assert done == ["create", "build.lock", "dev.lock"]

    (requirements / "dev.lock").write_text("one==2\n")
    environment.python("dev")
    assert done[3:] == ["create", "dev.lock"]

    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    environment.python("dev")
    assert done[5:] == ["create", "dev.lock"]


def test_the_commands_need_nothing_but_the_standard_library() -> None:
    names = [path.stem for path in (ROOT / "building").glob("*.py") if path.stem != "packing"]
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + "".join(
        f"import building.{name}\n" for name in names if name != "__init__"
    )

    done = subprocess.run(
        [sys.base_prefix + "/bin/python3", "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_paths_are_those_of_the_folder_where_the_command_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "records").mkdir()
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("building.commands")

    assert module._from_here(["records", "-k", "name"]) == [str(tmp_path / "records"), "-k", "name"]
