"""The public `Group`: runs that belong together, with statistics over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from runfold.api.columns import load_pandas, shaped
from runfold.api.connection import Connection
from runfold.api.paths import route
from runfold.api.run import Run
from runfold.api.runs import Runs


class Group:
    """One group of one project: the ranks of a grouped job, folds, seeds. Not thread-safe."""

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self._document = document
        self.entity: str = document["entity"]
        self.project: str = document["project"]
        self.name: str = document["name"]

    def __repr__(self) -> str:
        return f"<Group {self.entity}/{self.project}/{self.name} ({self.state})>"

    def __len__(self) -> int:
        return int(self._document["run_count"])

    @property
    def path(self) -> list[str]:
        """[entity, project, name], each quoted for an address."""
        return [quote(part, safe="") for part in (self.entity, self.project, self.name)]

    @property
    def state(self) -> str:
        """running while a run goes on; else the worst end of its runs, a repeated fold counted once.

        A rank's run that ended in consequence of another rank's failure does not count.
        """
        return str(self._document["state"])

    @property
    def first_failure(self) -> dict[str, Any] | None:
        """The first primary failure, as of `Run.first_failure`, with the id of its run as "run"."""
        found: dict[str, Any] | None = self._document.get("first_failure")
        return found

    @property
    def states(self) -> dict[str, int]:
        """How many runs are in each state."""
        return dict(self._document["states"])

    def load(self, force: bool = False) -> dict[str, Any]:
        """Return the group's document, read again when `force`."""
        if force:
            self._document = self._get()
        return self._document

    def runs(self, per_page: int = 50) -> Runs:
        """Return its runs, oldest first."""
        return Runs(
            self._connection,
            self.entity,
            self.project,
            filters={"group": self.name},
            order="+created_at",
            per_page=per_page,
        )

    def run(self, run_id: str) -> Run:
        """Return one run of the group's project.

        Raises:
            RunNotFoundError: (a CommError and a ValueError) There is no such run.
        """
        path = route("runs", self.entity, self.project, run_id)
        return Run(self._connection, self._connection.get(path, {"include": ["config", "summary"]}))

    def history(
        self,
        keys: list[str] | None = None,
        samples: int = 500,
        x_axis: str = "_step",
        pandas: bool = True,
        stats: bool = False,
    ) -> Any:
        """Return the mean over the group's runs of each metric, aligned on `x_axis`.

        Args:
            keys: Metrics; None: all numeric ones.
            x_axis: "_step" or a metric that the runs logged (an epoch, tokens seen).
            samples: As of `Run.history`; a point is one value of the x axis.
            pandas: A DataFrame where pandas is installed, else a list of dicts.
            stats: For each key k also k:mean, k:std, k:min, k:max, k:count, k:argmin and k:argmax
                (std with n-1, NaN for one run; argmin and argmax are run ids).

        Returns:
            Rows in order of the x axis, the first column; means and statistics are float64, NaN where no run
            has a value, k:count int64, run ids texts.

        Raises:
            RequestError: (a ValueError) `samples` or the size of the answer is over its limit.
        """
        parameters = {"keys": keys, "samples": samples, "x_axis": x_axis, "stats": stats}
        return shaped(self._get("history", parameters), pandas=pandas)

    def summary(self, pandas: bool = True) -> Any:
        """Return one row a run: run_id, name, fold, state, and each leaf of its summary by its dotted key."""
        return _rows(self._get("summary")["rows"], pandas=pandas)

    def table(self, by: str | Sequence[str] | None = None, pandas: bool = True) -> Any:
        """Return the spread of every numeric summary value over the runs: one row a key.

        Args:
            by: Config keys: one block of rows per combination of their values. "-seed" (with a minus) groups
                by every config key but that one.

        Returns:
            Rows with key, the `by` columns, mean, std (n-1), min, max, median, n, ci95_low, ci95_high, all
            float64 but n (int64). The interval is Student's t; a fold that was run again counts once.
        """
        names = [by] if isinstance(by, str) else by
        return _rows(self._get("table", {"by": names})["rows"], pandas=pandas)

    def _get(self, part: str | None = None, parameters: dict[str, Any] | None = None) -> Any:
        parts = [] if part is None else [part]
        path = route("groups", self.entity, self.project, *parts)
        return self._connection.get(path, {"name": self.name, **(parameters or {})})


def _rows(rows: list[dict[str, Any]], *, pandas: bool) -> Any:
    module = load_pandas() if pandas else None
    return rows if module is None else module.DataFrame.from_records(rows)
