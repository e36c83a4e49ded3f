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

from appliance.errors import ApplianceError, BadInput, Unavailable

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
    from appliance import app, crash_points, telemetry

    settings = _settings(settings_file)
    telemetry.configure(settings.log_level, settings.log_format)
    crash_points.arm(os.environ.get(crash_points.VARIABLE, ""), allowed=settings.allow_loopback)
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


@commands.command()
@_settings_file
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def status(settings_file: Path | None, as_json: bool) -> None:
    """Say how the appliance fares: exit code 0 if it is healthy, else 1 and why."""
    from appliance.ops import printed

    told = _operate(settings_file, "status", [])
    click.echo(json.dumps(told, indent=2) if as_json else printed.status_report(told))
    if not told["healthy"]:
        sys.exit(EXIT_FAILED)


@commands.command()
@_settings_file
@click.argument("who", nargs=-1, metavar="[HANDLE or DID]...")
@click.option("--all", "everybody", is_flag=True, help="Every account that somebody here follows.")
@click.option("--repair", is_flag=True, help="Mend what differs.")
@click.option(
    "--level",
    type=click.Choice(["rev", "tail", "listing", "signed"]),
    default="listing",
    show_default=True,
    help="How closely to look: the revision alone, the newest page, every record, or the signed repository.",
)
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def audit(
    settings_file: Path | None, who: tuple[str, ...], everybody: bool, repair: bool, level: str, as_json: bool
) -> None:
    """Compare accounts with their own servers.

    The exit code is 0 only if every record there is here and nothing else: 1 if anything differed, also
    when it was mended, or could not be compared.
    """
    from appliance.ops import printed

    if bool(who) == everybody:
        raise BadInput("name accounts by handle or DID, or say --all")
    words = [f"level={level}", *(["repair"] if repair else []), *(who or ["--all"])]
    result = _follow(settings_file, "audit", words)
    click.echo(json.dumps(result, indent=2) if as_json else printed.audit_report(result))
    if not result["complete"]:
        sys.exit(EXIT_FAILED)


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


@member.command("ban")
@_settings_file
@click.argument("who")
@click.option("--reason", required=True, help="Kept for yourself; they are not told.")
def member_ban(settings_file: Path | None, who: str, reason: str) -> None:
    """End a membership, erase what was kept of it, and never admit that account again."""
    click.echo(f"{_operate(settings_file, 'member ban', [who, reason])['did']} is banned")


@member.command("unban")
@_settings_file
@click.argument("who")
def member_unban(settings_file: Path | None, who: str) -> None:
    """Lift a ban. They may come in again, as the admission setting says."""
    click.echo(f"{_operate(settings_file, 'member unban', [who])['did']} is banned no more")


@member.command("admin-link")
@_settings_file
def member_admin_link(settings_file: Path | None) -> None:
    """An address that opens /admin, once, within ten minutes; then for a quarter of an hour."""
    click.echo(_operate(settings_file, "member admin-link", [])["link"])


@member.command("log")
@_settings_file
def member_log(settings_file: Path | None) -> None:
    """What operators did, the latest first, as JSON."""
    click.echo(json.dumps(_operate(settings_file, "member log", []), indent=2, ensure_ascii=False))


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


@member.command("export")
@_settings_file
@click.argument("who")
def member_export(settings_file: Path | None, who: str) -> None:
    """Write everything that is kept about a member, and nowhere else, as JSON."""
    click.echo(json.dumps(_operate(settings_file, "member export", [who]), indent=2, ensure_ascii=False))


@member.command("import")
@_settings_file
@click.argument("who")
@click.option("--service", default="", help="AppView as DID#service; without it the official one.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def member_import(settings_file: Path | None, who: str, service: str, as_json: bool) -> None:
    """Bring along what a member kept at another AppView: mutes, bookmarks, subscriptions, preferences.

    The member has to be signed in here: it is asked for through the member's own server.
    """
    told = _operate(settings_file, "member import", [who, service] if service else [who])
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told["kinds"]:
        error = f"  stopped: {one['error']}" if one["error"] else ""
        click.echo(
            f"{one['kind']:24} {one['read']:6} read {one['added']:6} added {one['kept']:6} here already"
            f" {one['skipped']:6} skipped{error}"
        )


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


@commands.command()
@_settings_file
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="What was copied, as one JSON object.")
def backup(settings_file: Path | None, file: Path, as_json: bool) -> None:
    """Copy the database to FILE, while the appliance runs or not; it is checked before it has that name."""
    from appliance import app

    told = _run(app.back_up(_settings(settings_file), file.absolute()))
    _tell_copied(told._asdict(), f"{file} holds", as_json)


@commands.command()
@_settings_file
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="What was restored, as one JSON object.")
def restore(settings_file: Path | None, file: Path, as_json: bool) -> None:
    """Put the backup FILE in the database's place; the appliance must not run.

    What is there now is kept under another name. Every account is compared with its server afterwards.
    """
    from appliance import app

    told, kept = _run(app.restore(_settings(settings_file), file.absolute()))
    _tell_copied({**told._asdict(), "kept": None if kept is None else str(kept)}, "Restored", as_json)
    if kept is not None and not as_json:
        click.echo(f"what was there is {kept}")


def _tell_copied(told: dict[str, Any], begin: str, as_json: bool) -> None:
    from datetime import UTC, datetime

    if as_json:
        click.echo(json.dumps(told))
        return
    position = told["position_us"]
    until = "no stream was read yet"
    if position is not None:
        until = f"the stream up to {datetime.fromtimestamp(position / 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    click.echo(f"{begin} {told['accounts']} accounts, {until}, {told['bytes']} bytes")


def _operate(settings_file: Path | None, command: str, arguments: list[str]) -> Any:
    from appliance import app, telemetry

    telemetry.configure("error", "text")
    return _run(app.operate(_settings(settings_file), command, arguments))


def _follow(settings_file: Path | None, command: str, arguments: list[str]) -> Any:
    """Run a long command, with its progress on standard error; its result."""
    import contextlib
    import time

    from appliance import app, telemetry
    from appliance.ops.control import Done
    from appliance.ops.progress_line import ProgressLine, note_of

    telemetry.configure("error", "text")
    line = ProgressLine(sys.stderr)

    async def work() -> Any:
        # Closed here and now: what it has opened ends with it, not when somebody collects it.
        async with contextlib.aclosing(app.follow(_settings(settings_file), command, arguments)) as steps:
            async for step in steps:
                if isinstance(step, Done):
                    return step.result
                line.step(step["done"], step["total"], step["seconds"], time.monotonic(), note_of(step))
        raise Unavailable("it ended without a result")

    try:
        return _run(work())
    finally:
        line.close()


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
