"""What a scenario stored, read from its spools by the fold that run.summary uses: no server takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stored_form import StoredRun, empty_run, history_row, masked, stored_config, stored_metric

from runfold.live_fold import LiveFold
from runfold.protocol.file_records import ArtifactRecord, FileRecord
from runfold.protocol.identity import Identity
from runfold.protocol.manifest import Manifest
from runfold.protocol.records import (
    AlertRecord,
    ConfigRecord,
    ConsoleRecord,
    ExitRecord,
    MetricRecord,
    Record,
    RecordKind,
    RunRecord,
)
from runfold.spool.reader import SpoolReader
from runfold.uploads.jobs import ArtifactJob
from runfold.uploads.outbox import Outbox


def writers(cwd: Path) -> list[Path]:
    """Return the spools of a scenario that ran with `cwd` as its home."""
    return spools_in(cwd / ".runfold")


def spools_in(runfold_dir: Path) -> list[Path]:
    """Return the spools of processes below a RUNFOLD_DIR, in the order in which they were made."""
    found = [path.parent for path in (runfold_dir / "spool").glob("*/*/writer.msgpack")]
    processes = [directory for directory in found if identity(directory).role == "process"]
    return sorted(processes, key=lambda directory: identity(directory).started_unix_ns)


def consoles_of(directory: Path) -> list[Path]:
    """Return the spools with the output of the process whose spool this is."""
    found = [path.parent for path in directory.parent.glob("*/writer.msgpack")]
    return [each for each in found if identity(each).console_of == directory.name]


def identity(directory: Path) -> Identity:
    """Return who wrote a spool."""
    first = next(records(directory))
    assert first.kind == RecordKind.WRITER, "a spool begins with its writer"
    return Identity.unpack(first.payload)


def records(directory: Path) -> Iterator[Record]:
    """Yield the records of a spool that are no schema-coded rows."""
    reader, seq = SpoolReader(directory), 1
    try:
        while (batch := reader.read(seq, max_bytes=1 << 20)) is not None:
            yield from batch.others
            seq = batch.hi + 1
    finally:
        reader.close()


def runs_of(spools: list[Path], read: Callable[[Path], StoredRun]) -> list[StoredRun]:
    """Return the run of each process that made one; what its children said is told with it, as it was stored.

    Args:
        spools: In the order in which they were made.
        read: Returns what was stored of one.
    """
    makers = [spool for spool in spools if identity(spool).forked_from is None]
    return [_with_children(maker, spools, read) for maker in makers]


def _with_children(maker: Path, spools: list[Path], read: Callable[[Path], StoredRun]) -> StoredRun:
    run = read(maker)
    family = {maker.name}
    for spool in spools:  # a child comes after its parent
        if identity(spool).forked_from in family:
            family.add(spool.name)
            child = read(spool)
            for part in ("metrics", "files", "artifacts", "alerts", "output"):
                run[part] += child[part]
    return run


def read_run(directory: Path) -> StoredRun:
    """Return one stored run in the oracle's form."""
    who = identity(directory)
    stored = empty_run()
    stored["run"] = {
        "id": who.run_id,
        "entity": who.entity,
        "project": who.project,
        "name": who.name or "",
        "notes": who.notes or "",
        "tags": list(who.tags),
        "group": who.group or "",
        "job_type": who.job_type or "",
    }
    config: dict[str, Any] = dict(who.config)
    for spool in (*consoles_of(directory), directory):
        for record in records(spool):
            _take(stored, config, record)
    contents = _contents(directory.parent)
    for artifact in stored["artifacts"]:
        artifact["contents"] = contents[artifact.pop("client_id")]
    stored["config"] = stored_config(config)
    fold = LiveFold(directory, who.started_unix_ns, family=directory if who.forked_from is None else None)
    stored["summary"] = masked(fold.summary())
    stored["history"] = [history_row(row) for row in fold.rows()]
    return stored


def _artifact(said: ArtifactRecord) -> dict[str, Any]:
    """Return one artifact as the client stores it, with the id under which its contents are found."""
    return {
        "client_id": said.client_id,
        "name": said.name,
        "type": said.type,
        "aliases": sorted(said.aliases),
        "tags": sorted(said.tags),
        "distributed_id": said.distributed_id or "",
        "finalize": said.finalize,
        "incremental": said.incremental,
        "user_created": False,
    }


def _contents(target_dir: Path) -> dict[str, list[str]]:
    """Return the names of the files of each artifact that waits in the outbox, by its client id."""
    jobs = [job for job in Outbox(target_dir).waiting() if isinstance(job, ArtifactJob)]
    return {job.client_id: sorted(Manifest.unpack(Path(job.manifest).read_bytes()).entries) for job in jobs}


def _take(stored: StoredRun, config: dict[str, Any], record: Record) -> None:
    payload = record.payload
    match record.kind:
        case RecordKind.RUN:
            said = RunRecord.unpack(payload)
            changed = {"name": said.name, "notes": said.notes, "tags": said.tags and list(said.tags)}
            stored["run"] |= {field: value for field, value in changed.items() if value is not None}
        case RecordKind.CONFIG:
            change = ConfigRecord.unpack(payload)
            config |= change.set or {}
            for key in change.delete:
                config.pop(key, None)
        case RecordKind.METRIC:
            stored["metrics"].append(stored_metric(MetricRecord.unpack(payload)))
        case RecordKind.ALERT:
            alert = AlertRecord.unpack(payload)
            wait_ms = int(1000 * (alert.wait_duration_s or 0))
            stored["alerts"].append(
                {"title": alert.title, "text": alert.text, "level": alert.level, "wait_duration": wait_ms}
            )
        case RecordKind.EXIT:
            stored["exit_code"] = ExitRecord.unpack(payload).code
        case RecordKind.ARTIFACT:
            stored["artifacts"].append(_artifact(ArtifactRecord.unpack(payload)))
        case RecordKind.FILE:
            file = FileRecord.unpack(payload)
            stored["files"].append([file.name, file.policy.upper()])
        case RecordKind.PREEMPTING:
            stored["preempting"] = True
        case RecordKind.CONSOLE:
            said_lines = ConsoleRecord.unpack(payload)
            kind = "output_logger" if said_lines.stream == "logger" else "output_raw"
            if not said_lines.open_count:
                stored["output"] += [[kind, f"{line}\n"] for line in said_lines.lines]
