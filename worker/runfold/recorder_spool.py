"""What a recorder needs of a spool: a SpoolWriter has it, and what stands in for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from runfold.protocol.rows import RowSchema


class Spool(Protocol):
    """What the recorder needs of a SpoolWriter."""

    @property
    def last_seq(self) -> int: ...
    @property
    def dropped_count(self) -> int: ...
    def append_row(self, schema: RowSchema, flags: int, step: int, values: Any) -> bool: ...
    def append_record(self, kind: int, payload: bytes, flags: int = 0) -> bool: ...
    def close(self, *, final: bool = True) -> None: ...
    def close_with_status(self, payload: bytes, at_last: Callable[[int], bool]) -> bool: ...
