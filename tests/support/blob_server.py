"""The routes of files and blobs over a real database, in a process that can be killed and is back at once.

    python -m support.blob_server FOLDER BLOBS_URL

A line on standard input, the failpoint or nothing, starts a new life of the server (a fork, so that imports
are paid for once); a line on standard output is its address.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from coordinator.api.conftest import HeardIntake, backend_over
from runfold.protocol import failpoints
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.server import HttpServer
from runfold_coordinator.blobs.service import BlobService
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.readers.files_reader import FilesReader
from runfold_coordinator.run_files import RunFiles
from runfold_coordinator.store.store import Store


def live(folder: Path, url: str | None, failpoint: str) -> None:
    """Serve until killed."""
    failpoints._name, _, nth = failpoint.partition(":")
    failpoints.ARMED, failpoints._left = bool(failpoint), int(nth or 1)
    store = Store.open(f"sqlite:///{folder / 'runfold.db'}")
    service = BlobService(store, SystemClock(), url, folder, min_age_s=0.5)
    files = RunFiles(store, service.blobs, SystemClock())
    service.collector.add_roots(files.roots)
    backend = backend_over(
        store,
        HeardIntake(),
        blobs=service.blobs,
        uploads=service.uploads,
        files=files,
        stored_files=FilesReader(store),
    )
    server = HttpServer(create_app(backend), "127.0.0.1", 0).start()
    print(server.url, flush=True)
    service.start()
    threading.Event().wait()


def main() -> None:
    folder, url = Path(sys.argv[1]), sys.argv[2] or None
    for line in sys.stdin:
        child = os.fork()
        if not child:
            live(folder, url, line.strip())
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
