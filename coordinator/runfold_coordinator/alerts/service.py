"""Alerts of one server: a thread that looks, a thread that delivers. The service starts and stops it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from runfold_coordinator.alerts.board import AlertBoard
from runfold_coordinator.alerts.config_file import ConfigFile
from runfold_coordinator.alerts.dispatcher import Dispatcher
from runfold_coordinator.alerts.outbox import Outbox
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

AFTER_FAULT_S = 5.0


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
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runfold-alerts", daemon=True)
        store.writing.on_touched(self._board.note)

    def start(self) -> None:
        self._thread.start()
        self._dispatcher.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End both threads; what was not delivered waits in the database. Idempotent."""
        self._stopping.set()
        self._board.changed.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._dispatcher.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._board.turn():
                    self._dispatcher.wake()
                self._board.changed.wait(self._board.wait_s())
                # Many commits a second are one look.
                self._stopping.wait(0.05)
            except StoreError as error:
                logger.warning("alerts wait", extra={"event": "alerts_store_away", "why": str(error)})
                self._stopping.wait(AFTER_FAULT_S)
            except Exception:
                logger.exception("a look at the runs failed", extra={"event": "alerts_failed"})
                self._stopping.wait(AFTER_FAULT_S)
