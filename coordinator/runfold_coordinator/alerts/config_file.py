"""The alerts file while the server runs: read again when it changes; a wrong one leaves the last good one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from runfold_coordinator.alerts.config import AlertsConfig, AlertsConfigError, load_config

logger = logging.getLogger(__name__)


class ConfigFile:
    """The settings in force. `current` may be read by any thread; refresh() is for one."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        """Read the file; without a path there are no receivers and no rules.

        Raises:
            AlertsConfigError: It is not what it should be.
        """
        self._path = path
        self._environ = environ
        self._stamp = self._look()
        self.current = AlertsConfig() if path is None else load_config(path, environ)

    def refresh(self) -> bool:
        """Read the file again if it has changed; return whether other settings are in force now."""
        stamp = self._look()
        if self._path is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            found = load_config(self._path, self._environ)
        except AlertsConfigError as error:
            logger.error(  # noqa: TRY400 - the message says it all
                "the alerts file is wrong; the settings before it stay in force",
                extra={"event": "alerts_file_wrong", "why": str(error)},
            )
            return False
        is_other, self.current = found != self.current, found
        logger.info("the alerts file was read again", extra={"event": "alerts_file_read"})
        return is_other

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
