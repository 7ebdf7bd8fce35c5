"""The command line, also as `python -m runfold`. `runfold run` starts in half the time: it needs little."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    said = sys.argv[1:]
    if said[:1] == ["run"] and len(said) > 1 and (said[1] == "--" or not said[1].startswith("-")):
        from runfold.parent.command import run_and_end

        run_and_end(said[2:] if said[1] == "--" else said[1:])
    from runfold.cli import main as run_command_line

    run_command_line(said)


if __name__ == "__main__":
    main()
