"""Cold history: Parquet files that hold the columns of chunks, one row group a chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.store.chunks import Chunk


class ColdFiles:
    """Reads cold chunks."""

    def open_chunk(
        self,
        connection: sa.Connection,
        row: Any,
        fetch: Callable[[int], bytes],
        key_pk: int | None,
    ) -> Chunk:
        """Return the chunk of a row whose columns are in a file."""
        raise NotImplementedError
