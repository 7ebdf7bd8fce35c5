"""Runs the program given as its only argument: `python -m support.program "print(1)"`."""

import sys

exec(compile(sys.argv[1], "<program>", "exec"), {"__name__": "__main__"})
