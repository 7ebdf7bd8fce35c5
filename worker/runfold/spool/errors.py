"""What opening a spool may raise. Once open, a writer raises nothing for I/O, and a reader declares gaps.

OSError
└── SpoolUnavailableError   no directory, no space, not ours: try another place
ValueError
└── SpoolDamagedError       nothing in the directory says who wrote it
"""

from __future__ import annotations


class SpoolUnavailableError(OSError):
    """A spool cannot be made in this directory."""


class SpoolDamagedError(ValueError):
    """A directory that cannot be read as a spool at all."""
