"""What a scenario stored, read through the public Api from a server that received its spools."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spool_view import identity, read_run
from stored_form import StoredRun, history_row, masked, stored_config

from runfold.api import Api
from runfold.node.deliver import deliver_all
from runfold.node.settings import NodeSettings


class StoredRuns:
    """Sends offline spools to one server and reads the runs back."""

    def __init__(self, url: str, runfold_dir: Path) -> None:
        """Take the server's address and a folder of our own, so that no other registration is found."""
        self.api = Api(url=url)
        self._settings = NodeSettings.from_env({"RUNFOLD_URL": url, "RUNFOLD_DIR": str(runfold_dir)})

    def deliver(self, spools: Iterable[Path]) -> None:
        """Send everything; return when it is stored."""
        report = deliver_all(spools, self._settings, timeout_s=60)
        assert report.pending == 0, report
        assert not report.unreadable, report

    def read(self, spool: Path) -> StoredRun:
        """Return the run of a spool in the oracle's form.

        What the Api does not show (definitions as said, alerts, console, files) is taken from the spool.
        """
        who, stored = identity(spool), read_run(spool)
        run = self.api.run(f"{who.entity}/{who.project}/{who.run_id}")
        stored["run"] |= {
            "name": run.name,
            "notes": run.notes or "",
            "tags": list(run.tags),
            "group": run.group or "",
            "job_type": run.job_type or "",
        }
        stored["config"] = stored_config(run.rawconfig)
        stored["summary"] = masked(run.summary_metrics)
        stored["history"] = [history_row(row) for row in run.scan_history()]
        stored["state"] = run.state
        return stored
