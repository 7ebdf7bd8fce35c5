"""DeprecatedNames: names of W&B's older releases. Each warns once and calls its successor. Part of Run."""

from __future__ import annotations

from typing import Any

from runfold import terminal


def _moved(old: str, new: str) -> None:
    terminal.warn_once(f"Run.{old} is deprecated, use {new}")


class DeprecatedNames:
    """Old names of a run."""

    def join(self, exit_code: int | None = None) -> None:
        """Do as `finish`."""
        _moved("join()", "finish()")
        self._me().finish(exit_code)

    def get_url(self) -> str | None:
        """Return `url`."""
        _moved("get_url()", "url")
        url: str | None = self._me().url
        return url

    def get_project_url(self) -> str | None:
        """Return `project_url`."""
        _moved("get_project_url()", "project_url")
        url: str | None = self._me().project_url
        return url

    def get_sweep_url(self) -> str | None:
        """Return `sweep_url`."""
        _moved("get_sweep_url()", "sweep_url")
        url: str | None = self._me().sweep_url
        return url

    def project_name(self) -> str:
        """Return `project`."""
        _moved("project_name()", "project")
        name: str = self._me().project
        return name

    def plot_table(
        self,
        vega_spec_name: str,
        data_table: Any,
        fields: dict[str, Any],
        string_fields: dict[str, Any] | None = None,
        split_table: bool = False,
    ) -> Any:
        """Return what `runfold.plot_table` does."""
        from runfold.plot import plot_table

        _moved("plot_table()", "runfold.plot_table()")
        return plot_table(vega_spec_name, data_table, fields, string_fields, split_table)

    @property
    def mode(self) -> str:
        """Online, offline, disabled or shared."""
        _moved("mode", "settings.mode")
        return self._me().settings.mode or "online"

    def _me(self) -> Any:
        return self
