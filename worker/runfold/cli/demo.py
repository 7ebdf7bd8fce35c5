"""`runfold demo`: starts a server, trains on it, prints the aggregate read back through `Api`."""

from __future__ import annotations

from typing import Annotated

import typer

from runfold.cli.options import AsJson
from runfold.cli.output import MissingExtraError


def demo(
    exit_when_done: Annotated[
        bool, typer.Option("--exit", help="End when the figures are there, with status 0.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the demo: data-parallel training and cross-validation on a fresh local server."""
    try:
        from runfold_coordinator.demo import run_demo
    except ImportError as error:
        raise MissingExtraError("`runfold demo`", "demo", error.name) from error
    raise typer.Exit(run_demo(exit_when_done=exit_when_done, as_json=as_json))
