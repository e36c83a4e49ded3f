"""The commands.

Each imports what it needs when it runs, so that ``version`` and ``--help`` answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from appliance.errors import ApplianceError, BadInput

if TYPE_CHECKING:
    import asyncio

    from appliance.config import Settings

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_MISUSED = 2


def main() -> None:
    """Run the command on the command line; the entry point of the archive."""
    try:
        commands()
    except ApplianceError as error:
        click.echo(f"appliance: {error.message}", err=True)
        sys.exit(EXIT_MISUSED if isinstance(error, BadInput) else EXIT_FAILED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """A complete, chronological timeline of everyone you follow on AT Protocol, from one file."""


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def version(as_json: bool) -> None:
    """Say what this file holds and what it runs on."""
    from appliance.ops import about

    click.echo(about.as_json() if as_json else about.as_text())


_settings_file = click.option(
    "--config", "settings_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML file of settings; environment variables of the same names win.",
)  # fmt: skip


@commands.command()
@_settings_file
def serve(settings_file: Path | None) -> None:
    """Run the appliance by its settings until it is told to stop."""
    from appliance import app, telemetry

    settings = _settings(settings_file)
    telemetry.configure(settings.log_level, settings.log_format)
    _run(app.serve(settings))


@commands.command()
@click.option("--port", default=2580, show_default=True, help="Port of the appliance; 0 takes a free one.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    help="Folder that keeps both worlds between runs.",
)
@click.option("--accounts", default=40, show_default=True, help="People in the small network.")
@click.option("--rate", default=2.0, show_default=True, help="Events a second there; 0 lets it stand still.")
@click.option("--info", type=click.Path(path_type=Path), help="JSON file written when ready.")
def demo(port: int, data: Path, accounts: int, rate: float, info: Path | None) -> None:
    """Start a small network and an appliance on it, to look around."""
    from appliance import demo as demos
    from appliance import telemetry

    telemetry.configure("warning", "text")
    demos.run(demos.Options(port, data.absolute(), accounts, rate, info), click.echo, _run)


@commands.command()
@click.option("--port", default=0, show_default=True, help="First of consecutive ports; 0 takes free ones.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder that keeps the network between runs.")
@click.option("--accounts", default=40, show_default=True, help="People.")
@click.option("--rate", default=2.0, show_default=True, help="Events a second; 0 lets it stand still.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same people.")
@click.option("--info", type=click.Path(path_type=Path), help="JSON file written when ready.")
@click.option("--while-open", "pipe", type=int, hidden=True, help="End when this pipe is closed.")
def devnet(
    port: int, data: Path | None, accounts: int, rate: float, seed: int, info: Path | None, pipe: int | None
) -> None:
    """Run a small AT Protocol network on this machine, for tests and demos."""
    import asyncio
    import signal

    from appliance import telemetry
    from appliance.devnet import network
    from appliance.devnet.options import Options

    telemetry.configure("warning", "text")
    options = Options(port=port, data=data, accounts=accounts, rate=rate, seed=seed, info=info)

    async def work() -> None:
        stop = asyncio.Event() if pipe is None else _until_closed(pipe)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await network.run(options, stop=stop, on_ready=lambda told: click.echo(told))

    _run(work())


@commands.group()
def member() -> None:
    """Who belongs to this appliance."""


@member.command("add")
@_settings_file
@click.argument("who")
def member_add(settings_file: Path | None, who: str) -> None:
    """Admit a DID or handle, whatever the admission setting."""
    told = _operate(settings_file, "member add", [who])
    click.echo(f"{told['did']} {'is a member now' if told['new'] else 'was a member already'}")


@member.command("remove")
@_settings_file
@click.argument("who")
def member_remove(settings_file: Path | None, who: str) -> None:
    """End a membership. What only this member read goes after a while."""
    click.echo(f"{_operate(settings_file, 'member remove', [who])['did']} is no member any more")


@member.command("list")
@_settings_file
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def member_list(settings_file: Path | None, as_json: bool) -> None:
    """Everybody who belongs here, longest first."""
    told = _operate(settings_file, "member list", [])
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        click.echo(f"{one['did']:34} {one['handle'] or '(handle not confirmed)':32} {one['via']}")
    click.echo(f"{len(told)} {'member' if len(told) == 1 else 'members'}")


@member.command("invite")
@_settings_file
@click.option("--uses", default=1, show_default=True, help="How many people the code admits.")
def member_invite(settings_file: Path | None, uses: int) -> None:
    """Make an invite code, for ADMISSION=invite."""
    click.echo(_operate(settings_file, "member invite", [str(uses)])["code"])


@commands.group()
def feed() -> None:
    """Our feeds, for readers who use other clients."""


_password_file = click.option(
    "--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File that holds the app password; without it the terminal asks.",
)  # fmt: skip


@feed.command("publish")
@_settings_file
@_password_file
@click.argument("who")
def feed_publish(settings_file: Path | None, password_file: Path | None, who: str) -> None:
    """Write the records of our feeds into the repository of WHO, a handle or DID.

    Signs in there with an app password, and signs out again. Again after new lists: what is right
    already is left alone.
    """
    told = _operate(settings_file, "feed publish", [who, _password(password_file)])
    for uri in told["published"]:
        click.echo(uri)
    click.echo(f"{len(told['written'])} written, {len(told['removed'])} removed")


@feed.command("unpublish")
@_settings_file
@_password_file
@click.argument("who")
def feed_unpublish(settings_file: Path | None, password_file: Path | None, who: str) -> None:
    """Take the records of our feeds out of the repository of WHO."""
    told = _operate(settings_file, "feed unpublish", [who, _password(password_file)])
    click.echo(f"{len(told['removed'])} removed")


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text("utf-8").strip()
    password: str = click.prompt("App password", hide_input=True)
    return password


def _operate(settings_file: Path | None, command: str, arguments: list[str]) -> Any:
    from appliance import app, telemetry

    telemetry.configure("error", "text")
    return _run(app.operate(_settings(settings_file), command, arguments))


def _until_closed(handle: int) -> asyncio.Event:
    """An event that is set when the other end of this pipe is gone."""
    import asyncio

    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(handle, 1):
            loop.remove_reader(handle)
            closed.set()

    loop.add_reader(handle, readable)
    return closed


def _settings(path: Path | None) -> Settings:
    from appliance import config

    return config.load(path, os.environ)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run this on the quickest event loop there is."""
    try:
        import uvloop
    except ImportError:
        import asyncio

        return asyncio.run(work)
    return uvloop.run(work)


if __name__ == "__main__":
    main()
