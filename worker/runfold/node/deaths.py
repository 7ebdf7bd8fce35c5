"""The duty that says how processes ended: as soon as one is gone, and once for each, whoever ships its spool.

In: writers found and ended. Out: evidence, and a mark in the spool of each writer of which it was given.
"""

from __future__ import annotations

import logging
import os

from runfold.protocol.evidence import GONE

from .tail import WriterTail
from .witness import Witness

logger = logging.getLogger(__name__)

#: In a writer's spool: an agent said durably how its process ended, the next agent need not.
MARK_NAME = "witnessed"


class Deaths:
    """Testifies of every process of this place that is gone, whether or not it said so itself."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._told: set[bytes] = set()

    def writer_found(self, tail: WriterTail) -> None:
        """Nothing to be seen before the end."""

    def writer_ended(self, tail: WriterTail) -> None:
        """Say what can be known of the end."""
        if tail.identity.role != "process" or tail.writer in self._told or _is_marked(tail):
            return
        self._witness.testify(tail.writer, GONE, {})
        self._told.add(tail.writer)
        if self._witness.keeps:
            _mark(tail)

    def step(self, now_s: float) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing is open."""


def _is_marked(tail: WriterTail) -> bool:
    return (tail.directory / MARK_NAME).exists()


def _mark(tail: WriterTail) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.close(os.open(tail.directory / MARK_NAME, flags, 0o600))
    except OSError as error:  # full, or read-only: it will be said again, which changes nothing
        logger.info(
            "a spool can't be marked: %s", error, extra={"event": "not_marked", "writer": tail.writer.hex()}
        )
