"""TableSnapshot: what a row of log() keeps of a table. Out: a file for pages, an artifact for programs.

In the caller's thread cells that can change are copied, and what has no form in JSON is refused. Text is made
of them in the encoder's thread, some hundred rows at a time, so that training gets its turn.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from runfold import terminal
from runfold.media.captured_table import CapturedTable
from runfold.media.content import Content
from runfold.media.json_text import json_text
from runfold.media.media import Media
from runfold.media.table_cells import file_rows

if TYPE_CHECKING:
    from runfold.media.table import Table

#: Rows that become text at once.
_CHUNK_ROWS = 256


class TableSnapshot(Media):
    """A table as it was when it was logged. Its rows are fixed; other threads may use it."""

    TYPE: ClassVar[str] = "table-file"
    FOLDER: ClassVar[str] = "media/table"

    def __init__(self, table: Table, *, first: int = 0) -> None:
        """Copy the rows from `first` on. TypeError: a cell has no form in JSON."""
        super().__init__()
        self.captured = captured = CapturedTable.of(table, first=first)
        self._told_size = captured.size_facts
        _warn_of_limits(len(table.data) - first, table.MAX_ROWS, table.MAX_ARTIFACT_ROWS)
        shown = captured.rows[: table.MAX_ROWS]
        self._content = Content.captured(
            ".table.json",
            lambda path: _write_file(path, captured.columns, shown),
            captured.held_bytes,
        )

    def facts(self) -> Mapping[str, Any]:
        """Return its size and its mode."""
        return self._told_size

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Store its file; its artifact follows in the encoder's turn."""
        from runfold.media.run_table import keep_artifact

        stored = super().store(run, key, number)
        return stored | keep_artifact(run, self.captured, *self.artifact_names(key))

    def artifact_names(self, key: str) -> tuple[str, str, str]:
        """Return the artifact's name after "run-<id>-", its type, and the name of the file in it."""
        return key, "run_table", f"{key}.table.json"


class LaterView(TableSnapshot):
    """The snapshot that was logged before, of a table that has changed since: only its size is told anew."""

    def __init__(
        self, table: Table, snapshot: TableSnapshot
    ) -> None:  # not super(): it has no rows of its own
        Media.__init__(self)
        self._snapshot = snapshot
        self._content = snapshot.content
        self.captured = snapshot.captured
        self._told_size = {"ncols": len(table.columns), "nrows": len(table.data), "log_mode": table.log_mode}

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Return what the snapshot is stored as, with the table's size of now, as W&B does."""
        return {**run._store_one(self._snapshot, key, number), **self._told_size}  # noqa: SLF001  # one product


class Increment(TableSnapshot):
    """The rows that were added since the last one."""

    TYPE: ClassVar[str] = "incremental-table-file"

    def __init__(self, table: Table, before: Increment | None) -> None:
        """Copy the rows that `before` has not. TypeError: a cell has no form in JSON."""
        super().__init__(table, first=0 if before is None else before.captured.row_count)
        self.index: int = 0 if before is None else before.index + 1
        self._made_unix_ms = int(time.time() * 1000)
        #: Let go of when this one is stored: else all of them, with their files, would live with the table.
        self._before = before
        #: The parts up to this one as they are named in JSON, by run.
        self._paths: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Store the part, and tell which ones come before it in this run."""
        if self._before is not None:
            self._paths.update(self._before._paths)  # noqa: SLF001  # ours
            self._before = None
        earlier = self._paths.get(run, [])
        stored = super().store(run, key, number)
        self._paths[run] = [*earlier, stored["artifact_path"]]
        return {**stored, "increment_num": self.index, "previous_increments_paths": earlier}

    def artifact_names(self, key: str) -> tuple[str, str, str]:
        """Return a collection of all parts, and a name that tells this one from those of other processes."""
        entry = f"{self.index}-{self._made_unix_ms}.{key}.table.json"
        return f"incr-{key}", "wandb-run-incremental-table", entry


def take(table: Table, before: TableSnapshot | None, *, is_changed: bool) -> TableSnapshot:
    """Return what a row keeps of a table that was logged as `before`, or was not."""
    if table.log_mode == "INCREMENTAL":
        assert before is None or isinstance(before, Increment), "its mode does not change"
        return before if before is not None and not is_changed else Increment(table, before)
    if before is None or (is_changed and table.log_mode == "MUTABLE"):
        return TableSnapshot(table)
    return before


def _warn_of_limits(count: int, file_rows_limit: int, artifact_rows_limit: int) -> None:
    if count > artifact_rows_limit:
        terminal.warn(
            f"a table of {count:,} rows: its artifact keeps the first {artifact_rows_limit:,}, pages show "
            f"the first {file_rows_limit:,}. Log the rest as another table, or as a file (Artifact.add_file)"
        )
    elif count > file_rows_limit:
        terminal.warn(
            f"a table of {count:,} rows: pages show the first {file_rows_limit:,}; its artifact keeps all"
        )


def _write_file(path: Path, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> None:
    """Write what pages show, byte for byte as W&B does."""
    with path.open("w", encoding="utf-8", errors="replace") as file:
        file.write(f'{{"columns":{json_text(list(columns))},"data":[')
        file.writelines(_pieces(rows))
        file.write("]}")


def _pieces(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for at in range(0, len(rows), _CHUNK_ROWS):
        text = json_text(file_rows(rows[at : at + _CHUNK_ROWS]))[1:-1]
        yield f",{text}" if at else text
