"""`runfold run -- CMD`: a command with a parent that knows how it ended, and who had it ended."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def run(
    command: Annotated[
        list[str],
        typer.Argument(help="The command and its arguments, behind --.", metavar="-- CMD [ARGS]..."),
    ],
    as_wandb: Annotated[
        bool,
        typer.Option("--as-wandb", help="In it, and all that it starts, `import wandb` gives runfold."),
    ] = False,
) -> None:
    """Run a training command, or its launcher (torchrun), and note how it ended and which signals came.

    Ends with the command's own exit status. Signals are passed on. Needs no server: the node's agent takes
    the note to it.
    """
    from runfold.parent.command import run_and_end

    if as_wandb:
        from runfold.wandb_names.path_entry import put_first

        put_first(os.environ)
    run_and_end(command)
