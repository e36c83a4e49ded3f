"""The recorded answers of the official AppView, scenario by scenario."""

from pathlib import Path

import pytest

from tests.conformance.comparing import differences, plain
from tests.conformance.runner import main, run
from tests.interop import python_models
from tests.shared import shared

# Queries of the methods that the server has, so that an empty run can't pass.
COMPARED = {
    "author_feed": 219,
    "basic": 599,
    "clocks": 299,
    "embeds": 331,
    "feeds": 304,
    "gates": 347,
    "graph": 675,
    "lifecycle": 931,
    "lists": 724,
    "notifications": 170,
    "reposts": 429,
    "threads": 253,
}


@pytest.mark.parametrize("name", COMPARED)
async def test_we_answer_as_the_official_server_does(name: str) -> None:
    undecoded: list[str] = []

    def heard(nsid: str, body: object) -> None:
        if (refusal := python_models.refusal(nsid, body)) is not None:
            undecoded.append(refusal)

    report = await run(shared(f"conformance/{name}"), heard)

    assert undecoded == []
    assert "\n".join(map(str, report.differing)) == ""
    assert report.invalid == []
    assert report.compared.total() == COMPARED[name]
    assert report.equal.total() + report.ours.total() == COMPARED[name]
    assert report.is_clean


def test_the_command_says_so_by_its_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = shared("conformance/threads")
    assert main([str(folder)]) == 0
    assert "253" in capsys.readouterr().out

    spoiled = tmp_path / "threads"
    spoiled.mkdir()
    for path in folder.iterdir():
        if path.name != "index.jsonl":
            (spoiled / path.name).symlink_to(path)
    lines = (folder / "index.jsonl").read_text().splitlines()
    spoiled.joinpath("index.jsonl").write_text(
        "\n".join([lines[0].replace('"status":200', '"status":404'), *lines[1:]])
    )
    assert main([str(spoiled)]) == 1
    assert "status: 200" in capsys.readouterr().out


def test_differences_are_found_whatever_they_are() -> None:
    ours = {"a": [1, {"b": None, "cursor": "5__bafyreihtsfb2l73vfi"}], "c": "x", "e": 1}
    theirs = {"a": [1, {"cursor": "5__bafyreihtsfb2l73vfidn3cjm2q67x"}], "c": "y", "d": 2, "e": True}

    assert list(differences(plain(ours), plain(theirs))) == [
        ".c: 'x' where they have 'y'",
        ".d: we lack 2",
        ".e: 1 where they have True",
    ]
    assert list(differences([1], [1, 2])) == [": we have 1 entries, they have 2"]
    assert list(differences({"cursor": "5__bafyreihtsfb2l73vfj"}, plain(theirs["a"][1]))) != []  # type: ignore[index]
