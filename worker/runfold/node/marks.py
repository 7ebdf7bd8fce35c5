"""A mark in a writer's spool: an agent said durably how its process ended, so the next agent need not."""

from __future__ import annotations

import logging
import os

from .tail import WriterTail

logger = logging.getLogger(__name__)

MARK_NAME = "witnessed"


def is_marked(tail: WriterTail) -> bool:
    """Return whether the end of this writer's process was told before."""
    return (tail.directory / MARK_NAME).exists()


def mark(tail: WriterTail) -> None:
    """Note that it was told. Where that can't be, it will be told again, which changes nothing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.close(os.open(tail.directory / MARK_NAME, flags, 0o600))
    except OSError as error:
        logger.info(
            "a spool can't be marked: %s", error, extra={"event": "not_marked", "writer": tail.writer.hex()}
        )
