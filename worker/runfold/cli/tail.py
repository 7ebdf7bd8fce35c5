"""`runfold tail`: what a run's processes print, merged by time."""

from __future__ import annotations

import datetime
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import print_json_line

if TYPE_CHECKING:
    from runfold.api.console_logs import ConsoleLogLine
    from runfold.api.run import Run

_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
#: Whatever else does something to a terminal; servers are not trusted to have removed it.
_HARMFUL = re.compile(r"\x1b(?!\[[0-9;:]{0,64}m)|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]")
_RESET = "\x1b[0m"
#: Colours by which processes are told apart: cyan, yellow, green, magenta, blue, and the same lighter.
_PREFIX_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def tail(  # noqa: PLR0917 - options, given by name
    path: Annotated[str, typer.Argument(help='"entity/project/id", "project/id" or "id".')],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    rank: Annotated[list[int] | None, typer.Option(help="Only this rank; may be repeated.")] = None,
    label: Annotated[str | None, typer.Option(help="Only the process with this label.")] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="So many lines from the end; 0: all.")
    ] = 10,
    stream: Annotated[
        str | None, typer.Option(help="Only stdout, stderr, output (both in one) or logger.")
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="Show when each line was printed, in UTC.")] = False,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Show what a run's processes printed; with -f also what they print from now on."""
    run = api_for(url, timeout_s).run(path)
    found = run.console_logs(last=lines or None, rank=rank or None, label=label, stream=stream, follow=follow)
    printer = _Printer(is_terminal=sys.stdout.isatty(), with_time=time, names=_are_several(run, rank, label))
    for line in found:
        if as_json:
            print_json_line({**asdict(line), "timestamp": line.timestamp.timestamp()})
        else:
            printer.print(line)


def _are_several(run: Run, ranks: list[int] | None, label: str | None) -> bool:
    if label is not None or (ranks is not None and len(ranks) == 1):
        return False
    return len(run.writers()) > 1


class _Printer:
    """Writes lines; who said them before each, where there are several."""

    def __init__(self, *, is_terminal: bool, with_time: bool, names: bool) -> None:
        self._is_terminal = is_terminal
        self._with_time = with_time
        self._names = names
        self._colours: dict[str, int] = {}

    def print(self, line: ConsoleLogLine) -> None:
        parts = []
        if self._with_time:
            stamp = line.timestamp.astimezone(datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
            parts.append(self._coloured(stamp, 2))
        if self._names:
            name = harmless(line.label or ("-" if line.rank is None else f"rank{line.rank}"))
            colour = self._colours.setdefault(
                line.writer, _PREFIX_COLOURS[len(self._colours) % len(_PREFIX_COLOURS)]
            )
            parts.append(self._coloured(f"{name}:", colour))
        content = harmless(line.content)
        if not self._is_terminal:
            content = _COLOUR.sub("", content)
        elif "\x1b" in content:
            content += _RESET
        sys.stdout.write(" ".join([*parts, content]) + "\n")
        sys.stdout.flush()

    def _coloured(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}{_RESET}" if self._is_terminal else text


def harmless(text: str) -> str:
    """Return a text whose escape sequences set colours and nothing else."""
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text)
