"""The commands.

Each imports what it needs when it runs, so that ``version`` and ``--help`` answer at once.
"""

from __future__ import annotations

import sys

import click

from appliance.errors import ApplianceError, BadInput

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
