"""What must not be in the repository, and what its lists must agree on."""

import re
import tomllib

import pytest

from building import mutants
from building.environment import LAYERS, REQUIREMENTS, SOURCE_ONLY, pinned
from building.release import PYTHONS
from tests.tidy.sources import ROOT, page, texts

# Written in pieces, or this file would be the first to be found.
REGISTRIES = ["py" + "pi.org", "python" + "hosted", "npm" + "js.", "deb." + "debian.org", "yarn" + "pkg"]
MACHINES = ["/wo" + "rk/", "/ro" + "ot/", "/home/" + "user"]


@pytest.mark.parametrize("word", [*REGISTRIES, *MACHINES])
def test_no_file_names_a_registry_or_a_machine(word: str) -> None:
    assert [name for name, text in texts() if word in text and "lexicon_files" not in name] == []


@pytest.mark.parametrize("lock", sorted(path.stem for path in REQUIREMENTS.glob("*.lock")))
def test_a_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.lock").read_text()

    assert "://" not in text
    assert "--" not in text.replace("--hash=sha256:", "")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pinned(lock)) > 0
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_locks_agree() -> None:
    largest = pinned(LAYERS[-1])
    for lock in ("runtime", *LAYERS):
        assert {name: largest.get(name) for name in pinned(lock)} == pinned(lock)


def test_a_condition_of_a_requirement_stands_in_the_locks_too() -> None:
    wanted = re.findall(r"^(\w+)\S*; (.*)$", page("requirements/runtime.in"), re.MULTILINE)

    assert wanted
    for lock in ("runtime", *LAYERS):
        for name, marker in wanted:
            assert re.search(
                rf"^{name}==\S+ ; {re.escape(marker)} ", page(f"requirements/{lock}.lock"), re.MULTILINE
            )


def test_every_direct_requirement_is_in_the_lock() -> None:
    for path in REQUIREMENTS.glob("*.in"):
        names = re.findall(r"^[A-Za-z0-9][\w.-]*", path.read_text(), re.MULTILINE)
        assert {name.lower() for name in names} <= set(pinned(path.stem))


def test_what_comes_as_source_is_in_the_lock_with_what_builds_it() -> None:
    assert set(SOURCE_ONLY) <= set(pinned("runtime"))
    assert "setuptools" in pinned("build")


def test_the_oldest_python_is_the_same_everywhere() -> None:
    project = tomllib.loads(page("pyproject.toml"))
    oldest = ".".join(map(str, PYTHONS[0]))

    assert project["project"]["requires-python"] == f">={oldest}"
    assert project["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"OLDEST = ({PYTHONS[0][0]}, {PYTHONS[0][1]})" in page("build.py")


def test_each_mutant_still_has_its_place_and_its_test() -> None:
    found = mutants.load()

    assert len(found) >= 3
    assert len({mutant.name for mutant in found}) == len(found)
    for mutant in found:
        assert page(mutant.file).count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new, mutant.name
        file, _, test = mutant.test.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), mutant.name
