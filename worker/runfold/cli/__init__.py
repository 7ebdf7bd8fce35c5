"""The command line: `runfold up`, `runs`, `show`, ... One file a command; heavy imports inside commands."""

from __future__ import annotations

import os
import sys

import typer

from runfold.cli.agent import agent
from runfold.cli.alerts import alerts
from runfold.cli.artifact import artifact
from runfold.cli.delete import delete, undelete
from runfold.cli.demo import demo
from runfold.cli.doctor import doctor
from runfold.cli.output import fail
from runfold.cli.run import run
from runfold.cli.runs import runs
from runfold.cli.show import show
from runfold.cli.stop import stop
from runfold.cli.sync import sync
from runfold.cli.tail import tail
from runfold.cli.top import top
from runfold.cli.up import up
from runfold.errors import Error
from runfold.version import VERSION

__all__ = ["app", "main"]

app = typer.Typer(
    name="runfold",
    help="Self-hosted coordinator and aggregator for distributed training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (up, demo, runs, show, stop, delete, undelete, sync, tail, agent, doctor, alerts, top):
    app.command()(command)
app.add_typer(artifact)
# What follows the command's name is the command's.
app.command(context_settings={"allow_interspersed_args": False})(run)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"runfold {VERSION}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_show_version, help="Print the version and end."
    ),
) -> None:
    del version  # its callback has done the work


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; errors go to stderr, with a status other than 0."""
    said = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=said, prog_name="runfold")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `runfold runs | head`: nobody reads on, which is no error. Keep the interpreter from flushing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (Error, OSError, ValueError) as error:
        fail(error, as_json="--json" in said)
