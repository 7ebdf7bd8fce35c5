"""`runfold doctor`: looks at this machine and at its server, and says how to fix what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from runfold.cli.checks import Check, local_checks
from runfold.cli.options import AsJson, Url
from runfold.cli.output import console, plain, print_json
from runfold.cli.server_checks import server_checks

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


def doctor(
    url: Url = None,
    data: Annotated[Path | None, typer.Option(help="Data directory of `runfold up` to look at.")] = None,
    redis: Annotated[str | None, typer.Option(help="Redis to look at; default: RUNFOLD_REDIS_URL.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check Redis, SQLite, disks, clocks, permissions and GPUs; status 1 when something is broken."""
    folder = Path(os.environ.get("RUNFOLD_DIR") or Path.home() / ".runfold").expanduser()
    checks: list[Callable[[], Check]] = [
        *local_checks(folder, data or folder / "server"),
        *server_checks(url, redis or os.environ.get("RUNFOLD_REDIS_URL")),
    ]
    found = [_made(check) for check in checks]
    broken = any(check.status == "fail" for check in found)
    if as_json:
        print_json({"ok": not broken, "checks": [check.as_dict() for check in found]})
    else:
        _print(found)
    if broken:
        raise typer.Exit(1)


def _made(check: Callable[[], Check]) -> Check:
    """Make one check; one that breaks is a finding, not the end of the examination."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever a sick machine answers, the other checks go on
        name = getattr(getattr(check, "func", check), "__name__", "check").lstrip("_").replace("_", " ")
        return Check(name, "fail", f"the check itself failed: {type(error).__name__}: {error}", "report this")


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    out = console()
    for check in checks:
        line = Text.assemble((f"{check.status:<5}", _STYLES[check.status]), f"{check.name:<16} ")
        out.print(line.append_text(plain(check.detail)))
        if check.fix:
            out.print(Text(" " * 22 + "-> ").append_text(plain(check.fix)))
