"""Options that several commands share, and the Api that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runfold.api import Api

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
Url = Annotated[
    str | None,
    typer.Option(help="Address of the server; default: RUNFOLD_URL, else the local server.", metavar="URL"),
]
TimeoutS = Annotated[
    float, typer.Option("--timeout", min=0.001, help="Longest wait for one answer, seconds.")
]


def api_for(url: str | None, timeout_s: float) -> Api:
    """Return an Api for a command."""
    from runfold.api import Api

    return Api(url=url, timeout=timeout_s)
