"""JoinedTable, PartitionedTable: tables that are made of other tables, without copies of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from runfold.media.artifact_objects import add_object, object_name, read_json
from runfold.media.captured_table import CapturedTable
from runfold.media.encoder import encoder
from runfold.media.media import Media
from runfold.media.run_table import client_path, file_name, log_own, new_artifact
from runfold.media.table import Table
from runfold.media.table_artifact import TABLE, is_artifact, name_of, read_table, write_table


class JoinedTable(Media):
    """Two tables, row by row where their keys are equal. Stored are both, and the name of the key."""

    TYPE: ClassVar[str] = "joined-table"

    def __init__(self, table1: Table | str, table2: Table | str, join_key: str | list[str]) -> None:
        """Join two tables.

        Args:
            table1, table2: Tables, or paths of tables in artifacts.
            join_key: The column of keys, or of each its own.

        Raises:
            ValueError: It is none of these.
        """
        super().__init__()
        if not isinstance(join_key, str) and not (isinstance(join_key, list) and len(join_key) == 2):
            raise ValueError("JoinedTable join_key should be a string or a list of two strings")
        for place, table in enumerate((table1, table2), 1):
            if not isinstance(table, (Table, str)):
                raise ValueError(  # noqa: TRY004  # as W&B
                    f"JoinedTable table{place} should be an artifact path to a table or wandb.Table object"
                )
        self._table1, self._table2, self._join_key = table1, table2, join_key
        #: Both as they were when it was logged last, or their paths.
        self._held: list[CapturedTable | str] = []

    def hold(self) -> None:
        """Take both tables as they are now. TypeError: a cell has no form in JSON."""
        self._held = [
            CapturedTable.of(table) if isinstance(table, Table) else table
            for table in (self._table1, self._table2)
        ]

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Make its artifact in the encoder's turn; it has no file of its own."""
        del number
        artifact, entry = new_artifact(run, key, "run_table"), file_name(object_name(key, self.TYPE))
        held = list(self._held)

        def log() -> None:
            add_object(artifact, entry, self.TYPE, self._told(artifact, held))
            log_own(run, artifact)

        encoder.put(log, owner=run)
        return {"_type": self.TYPE, "artifact_path": client_path(artifact, entry)}

    def to_artifact_json(self, artifact: Any) -> dict[str, Any]:
        """Put both tables into a draft, unless they are there, and return what joins them there."""
        self.hold()
        return self._told(artifact, list(self._held))

    def _told(self, artifact: Any, held: Sequence[CapturedTable | str]) -> dict[str, Any]:
        paths = {}
        for place, (given, kept) in enumerate(zip((self._table1, self._table2), held, strict=True), 1):
            known = name_of(artifact, given) if isinstance(given, Table) else None
            path = known or (kept if isinstance(kept, str) else object_name(f"t{place}_{id(self)}", TABLE))
            if known is None and not isinstance(kept, str):
                write_table(artifact, kept, path, overwrite=True)
            paths[f"table{place}"] = path
        return {"_type": self.TYPE, "join_key": self._join_key, **paths}

    def to_json(self, run: Any) -> dict[str, Any]:
        """Return the JSON object that stands for it in a run or an artifact."""
        return self.to_artifact_json(run) if is_artifact(run) else super().to_json(run)

    @classmethod
    def read(cls, artifact: Any, name: str) -> JoinedTable:
        """Return the one in a file of an artifact, with its tables; raises as `read_table` does."""
        told = read_json(artifact, name)
        first, second = (read_table(artifact, str(told.get(f"table{place}"))) for place in (1, 2))
        return cls(first, second, told["join_key"])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, JoinedTable)
            and self._join_key == other._join_key
            and self._table1 == other._table1
            and self._table2 == other._table2
        )

    __hash__ = object.__hash__


class PartitionedTable(Media):
    """All tables below a folder of an artifact, as one."""

    TYPE: ClassVar[str] = "partitioned-table"

    def __init__(self, parts_path: str) -> None:
        """Name the folder in the artifact to which this is added."""
        super().__init__()
        self.parts_path = parts_path
        self._artifact: Any = None

    def hold(self) -> None:
        """Nothing can change."""

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Make its artifact in the encoder's turn."""
        del number
        artifact, entry = new_artifact(run, key, "run_table"), file_name(object_name(key, self.TYPE))
        add_object(artifact, entry, self.TYPE, self.to_artifact_json(artifact))
        encoder.put(lambda: log_own(run, artifact), owner=run)
        return {"_type": self.TYPE, "artifact_path": client_path(artifact, entry)}

    def to_artifact_json(self, artifact: Any) -> dict[str, Any]:
        """Return what names the folder."""
        del artifact
        return {"_type": self.TYPE, "parts_path": self.parts_path}

    def to_json(self, run: Any) -> dict[str, Any]:
        """Return the JSON object that stands for it in a run or an artifact."""
        return self.to_artifact_json(run) if is_artifact(run) else super().to_json(run)

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield (number, cells) of each row of all parts, in the order of their names.

        Raises:
            ValueError: It was not read from an artifact; the parts have different columns.
        """
        if self._artifact is None:
            raise ValueError(
                "a PartitionedTable has rows once it is read from its artifact: artifact.get(name)"
            )
        columns: list[Any] | None = None
        number = 0
        for entry in sorted(self._artifact.manifest.entries):
            if not entry.startswith(f"{self.parts_path.rstrip('/')}/") or not entry.endswith(
                f".{TABLE}.json"
            ):
                continue
            part = read_table(self._artifact, entry)
            if columns is not None and part.columns != columns:
                raise ValueError(f"{entry} has other columns than the parts before it: {part.columns}")
            columns = part.columns
            for row in part.data:
                yield number, row
                number += 1

    @classmethod
    def read(cls, artifact: Any, name: str) -> PartitionedTable:
        """Return the one in a file of an artifact."""
        made = cls(str(read_json(artifact, name).get("parts_path", "")))
        made._artifact = artifact
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionedTable) and self.parts_path == other.parts_path

    __hash__ = object.__hash__
