"""How much disk a writer may take, and in which pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Sizes in bytes. A writer that reaches one keeps running; its rows are counted and declared as a gap."""

    #: Segments of one writer together.
    max_bytes: int = 16 * 1024**3
    #: Left free on the file system for everybody else.
    min_free_bytes: int = 64 * 1024**2
    #: ... but no more than this share of it: a small disk is there to be used.
    min_free_ratio: float = 0.05
    #: Segments double from the first size to the largest.
    first_segment_bytes: int = 256 * 1024
    max_segment_bytes: int = 16 * 1024**2
    #: "auto" appends by mmap where `posix_fallocate` is a promise, else by pwrite.
    mode: Literal["auto", "mmap", "pwrite"] = "auto"
    #: Prepare the next segment in a short-lived thread, at 3/4 of the current one.
    prepare_ahead: bool = True
    #: While nothing can be kept, ask again for space this often.
    retry_s: float = 0.25
