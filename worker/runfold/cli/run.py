"""`runfold run -- CMD`: a command with a parent that knows how it ended, and who had it ended."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    command: Annotated[
        list[str],
        typer.Argument(help="The command and its arguments, behind --.", metavar="-- CMD [ARGS]..."),
    ],
) -> None:
    """Run a training command, or its launcher (torchrun), and note how it ended and which signals came.

    Ends with the command's own exit status. Signals are passed on. Needs no server: the node's agent takes
    the note to it.
    """
    from runfold.parent.command import run_and_end

    run_and_end(command)
