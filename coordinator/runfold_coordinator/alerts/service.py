"""Alerts of one server: a thread that looks, a thread that delivers. The service starts and stops it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runfold_coordinator.alerts.board import AlertBoard
from runfold_coordinator.alerts.config_file import ConfigFile
from runfold_coordinator.alerts.dispatcher import Dispatcher
from runfold_coordinator.alerts.outbox import Outbox
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.store import Store
from runfold_coordinator.turn_loop import TurnLoop

AFTER_FAULT_S = 5.0
#: Many commits a second are one look.
GATHER_S = 0.05


class Alerts:
    """Looks and delivers until stop(). Ingest never waits for it: commits wake it, it reads by itself."""

    def __init__(self, store: Store, clock: Clock, path: Path | None, environ: Mapping[str, str]) -> None:
        """Read the alerts file.

        Raises:
            AlertsConfigError: (a ValueError) It is not what it should be; the message names the key.
        """
        config_file = ConfigFile(path, environ)
        self._board = AlertBoard(store, clock, config_file)
        self._dispatcher = Dispatcher(Outbox(store), clock, lambda: config_file.current)
        self._loop = TurnLoop(
            "alerts", self._look, retry_s=AFTER_FAULT_S, fault_retry_s=AFTER_FAULT_S, gather_s=GATHER_S
        )
        store.writing.on_touched(self._note)

    def start(self) -> None:
        self._loop.start()
        self._dispatcher.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End both threads; what was not delivered waits in the database. Idempotent."""
        self._loop.stop(timeout_s)
        self._dispatcher.stop()

    def _note(self, touched: Mapping[int, bool]) -> None:
        self._board.note(touched)
        self._loop.wake()

    def _look(self) -> float:
        if self._board.turn():
            self._dispatcher.wake()
        return self._board.wait_s()
