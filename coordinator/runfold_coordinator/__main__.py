"""`python -m runfold_coordinator`: one server, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from runfold_coordinator.redis_checks import RedisConfigurationError, RedisUnavailableError
from runfold_coordinator.service import Service, write_private_json
from runfold_coordinator.settings import CoordinatorSettings
from runfold_coordinator.store.errors import StoreError

#: Exit status when another coordinator has taken over: starting again would take the partition from it.
FENCED_STATUS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; return the exit status."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=parsed.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s %(extra)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_put_extra)
    ended = threading.Event()
    fenced: list[str] = []

    def end_fenced(why: str) -> None:
        fenced.append(why)
        ended.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: ended.set())
    try:
        settings = CoordinatorSettings.from_env(
            os.environ,
            data_dir=parsed.data,
            db_url=parsed.db,
            redis_url=parsed.redis,
            host=parsed.host,
            port=parsed.port,
            partitions=parsed.partitions,
            alerts_path=parsed.alerts,
            blobs_url=parsed.blobs,
        )
        service = Service(settings, on_fenced=end_fenced).start()
    except (
        RedisConfigurationError,
        RedisUnavailableError,
        StoreError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:
        _refuse(type(error).__name__, str(error), as_json=parsed.json)
        return 1
    gc.collect()
    gc.freeze()  # what was imported stays: collections look at work only
    try:
        if parsed.ready_file is not None:
            write_private_json(parsed.ready_file, service.facts())
        print(_greeting(service, as_json=parsed.json), flush=True)  # noqa: T201
        ended.wait()
    finally:
        service.stop()
        if parsed.ready_file is not None:
            parsed.ready_file.unlink(missing_ok=True)
    if fenced:
        _refuse("FencedError", f"stopped: {fenced[0]}", as_json=parsed.json)
        return FENCED_STATUS
    return 0


def _refuse(kind: str, message: str, *, as_json: bool) -> None:
    """Say on standard error why it does not serve (any more)."""
    refusal = {"error": {"type": kind, "message": message}}
    print(json.dumps(refusal) if as_json else f"runfold: {message}", file=sys.stderr)  # noqa: T201 - for whoever started us


def _greeting(service: Service, *, as_json: bool) -> str:
    """Return the one line on standard output; it goes into logs, so it has no Redis address (a password)."""
    facts = {name: value for name, value in service.facts().items() if name != "redis_url"}
    if as_json:
        return json.dumps(facts)
    return f"runfold: serving at {facts['url']}, data in {facts['data_dir']}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runfold up", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the database and files")
    parser.add_argument("--host", help="address to listen on; a public one needs RUNFOLD_API_KEY")
    parser.add_argument("--port", type=int, help="0 takes a free one")
    parser.add_argument("--redis", help="redis://, rediss:// or unix://; default: an embedded one")
    parser.add_argument("--db", help="sqlite:///path or postgresql://...; default: SQLite in the data folder")
    parser.add_argument("--partitions", type=int, help="streams to spread runs over; default 1")
    parser.add_argument("--blobs", help="folder or URL of files' content, such as s3://bucket/prefix")
    parser.add_argument("--alerts", type=Path, help="receivers and rules of alerts, a TOML file")
    parser.add_argument("--ready-file", type=Path, help="written when it serves")
    parser.add_argument("--json", action="store_true", help="say where it serves as a line of JSON")
    parser.add_argument("--log-level", default=os.environ.get("RUNFOLD_LOG_LEVEL", "warning"))
    return parser


_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "extra"}


def _put_extra(record: logging.LogRecord) -> bool:
    """Show what a message was given with `extra=`."""
    found = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
    record.extra = " ".join(f"{name}={value!r}" for name, value in found.items())
    return True


if __name__ == "__main__":
    sys.exit(main())
