"""CustomChart: a table and how it is drawn, a value of log(). Stored: the table, a word in the config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from runfold.errors import Error
from runfold.media.media import Media
from runfold.media.table import Table
from runfold.protocol.charts import CustomChartSpec, Spec

if TYPE_CHECKING:
    from runfold.protocol.keypath import KeyPath


@dataclass
class CustomChart:
    """A chart for log(). Under `key` it is drawn; the row has its table under `<key>_table`."""

    table: Table
    spec: CustomChartSpec

    def __post_init__(self) -> None:
        """Take tables only."""
        if not isinstance(self.table, Table):
            raise Error(  # W&B's class and words
                f"Expected `data_table` to be `wandb.Table` type, instead got {type(self.table).__name__}"
            )

    def set_key(self, key: str) -> None:
        """Say under which key it is drawn; log() does so for itself."""
        self.spec = replace(self.spec, key=key)

    def vega_lite(self) -> Spec | None:
        """Return its Vega-Lite spec with the table's rows in it; None: the spec is not runfold's own."""
        from runfold.media.table_cells import captured_rows, file_rows

        rows = file_rows(captured_rows(self.table.data[: Table.MAX_ROWS]))
        return self.spec.vega_lite(self.table.columns, rows)

    def as_media(self) -> Media:
        """Return what a row keeps of it."""
        return ChartTable(self.table, self.spec)


class ChartTable(Media):
    """A chart's table on its way into a row."""

    TYPE: ClassVar[str] = Table.TYPE

    def __init__(self, table: Media, spec: CustomChartSpec) -> None:
        super().__init__()
        self._table, self._spec = table, spec

    def logged_at(self, path: KeyPath) -> tuple[KeyPath, Media]:
        """Return the table as it is now, under the key that its chart's config names."""
        spec = replace(self._spec, key=".".join(path))
        _, snapshot = self._table.logged_at(path)
        return (spec.table_key,), ChartTable(snapshot, spec)

    def hold(self) -> None:
        """Have the table hold what it has."""
        self._table.hold()

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Store the table, unless the run has it, and tell in the config how it is drawn."""
        stored: dict[str, Any] = run._store_one(self._table, key, number)  # noqa: SLF001  # one product
        run._tell_chart(self._spec)  # noqa: SLF001  # same
        return stored


def plot_table(
    vega_spec_name: str,
    data_table: Table,
    fields: dict[str, Any],
    string_fields: dict[str, Any] | None = None,
    split_table: bool = False,
) -> CustomChart:
    """Return a chart that draws a table by a spec; log it.

    Args:
        vega_spec_name: One of runfold's own ("wandb/line/v0", ...), or of one that is kept elsewhere:
            it is stored, and drawn where it is known.
        fields: Which column is which field of the spec.
        string_fields: Texts of the spec, such as its title.
        split_table: Show the table apart from the chart.

    Raises:
        Error: `data_table` is no Table.
    """
    texts = dict(string_fields or {})
    return CustomChart(
        data_table, CustomChartSpec(vega_spec_name, dict(fields), texts, split_table=split_table)
    )
