"""Live documents as the API gives them, and a source that plays them: for what a real job can't be made to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

GIGABYTE = 10**9


def gpu(**changes: Any) -> dict[str, Any]:
    return {
        "index": 0, "uuid": "GPU-1", "name": "H100", "util_percent": 97.0, "memory_used_bytes": 71 * GIGABYTE,
        "memory_total_bytes": 85 * GIGABYTE, "temperature_celsius": 64.0, "power_watts": 340.0,
    } | changes  # fmt: skip


def writer(rank: int | None, **changes: Any) -> dict[str, Any]:
    return {
        "writer": f"{0 if rank is None else rank:032x}", "rank": rank, "label": f"rank-{rank}", "host": "node-a",
        "pid": 4000, "attempt": 1, "state": "running", "reason": "", "confidence": "", "unreachable": False,
        "stalled": False, "stopped": False, "phase": None, "phase_s": None, "silent_s": 1.0, "last_step": 1043,
        "step_lag": 0, "step_s": 0.412, "log_age_s": 0.3, "spool_lag": 0, "gpus": [], "cpu_percent": None,
        "rss_bytes": None,
    } | changes  # fmt: skip


def run(**changes: Any) -> dict[str, Any]:
    return {
        "entity": "local", "project": "llm", "id": "job-17", "name": "calm-sea-1", "state": "running", "reason": "",
        "confidence": "", "first_failure": None, "unreachable": False, "stalled": False, "verdicts": {},
        "group": None, "host": "node-a", "duration_s": 4521.0, "elapsed_s": 4521.0, "last_step": 1043, "attempt": 1,
        "states": {"running": 2}, "steps_per_s": 2.43, "goodput_ratio": None,
    } | changes  # fmt: skip


def document(*writers: dict[str, Any], **of_run: Any) -> dict[str, Any]:
    return {
        "unix_s": 1.7e9,
        "run": run(**of_run),
        "writers": list(writers) or [writer(0), writer(1)],
        "nodes": [],
    }


class PlayedSource:
    """Answers with what `play` returns, from whichever thread asks."""

    url = "http://127.0.0.1:8765"

    def __init__(
        self, play: Callable[[], dict[str, Any]], runs: Callable[[], list[dict[str, Any]]] | None = None
    ):
        self.play = play
        self.played_runs = runs or (lambda: [run()])
        self.asked: list[str] = []
        self.printed: list[Any] = []

    def again(self) -> PlayedSource:
        return self

    def runs(self) -> list[dict[str, Any]]:
        return self.played_runs()

    def stop(self, path: str, grace_s: float) -> dict[str, Any]:
        self.asked.append(f"stop {path} {grace_s:g}")
        return {"writers": [{}, {}]}

    def lines(self, path: str, writer: str, last: int) -> Iterator[Any]:
        self.asked.append(f"lines {path} {writer}")
        return iter(self.printed)

    def live(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        return self.play()
