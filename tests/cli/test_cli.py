"""The commands: quick to answer, clear when they fail."""

import json
import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from appliance import cli
from appliance.errors import ApplianceError, BadInput, Corrupt
from appliance.ops import about
from building.environment import ROOT

HEAVY = [
    "quart",
    "hypercorn",
    "httpx",
    "sqlite_utils",
    "cryptography",
    "PIL",
    "aiosqlite",
    "atproto",
    "asyncio",
]


@pytest.mark.parametrize("arguments", [["version"], ["version", "--json"], ["--help"], ["version", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['appliance', *{arguments!r}]\n"
        "from appliance.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"sys.stderr.write(' '.join(set({HEAVY!r}) & set(sys.modules)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_every_command_can_be_asked_what_it_does() -> None:
    for name in cli.commands.commands:
        done = CliRunner().invoke(cli.commands, [name, "--help"])
        assert done.exit_code == 0
        assert "Usage: " in done.output


def test_version_is_the_same_for_people_and_machines() -> None:
    text = CliRunner().invoke(cli.commands, ["version"]).output
    told = json.loads(CliRunner().invoke(cli.commands, ["version", "--json"]).output)

    assert text.startswith(f"appliance {told['version']}, build {told['build']}\n")
    assert f"Python {told['python']}, SQLite {told['sqlite']}" in text
    assert told["archive"] is None
    assert told["packages"]["quart"]
    assert told["build"] == about.build_id()


@pytest.mark.parametrize(
    ("error", "code"), [(BadInput("no such setting"), 2), (Corrupt("damaged"), 1), (ApplianceError("x"), 1)]
)
def test_a_failure_that_was_foreseen_is_one_sentence(
    error: ApplianceError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setitem(cli.commands.commands, "failing", failing)
    monkeypatch.setattr(sys, "argv", ["appliance", "failing"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == code
    assert capsys.readouterr().err == f"appliance: {error.message}\n"


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "version"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert done.stdout.startswith(f"appliance {import_module('appliance').__version__}, build ")
