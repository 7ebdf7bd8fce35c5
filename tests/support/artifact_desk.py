"""Artifacts over a store: manifests of small files, commits, processes that say what they logged."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runfold.protocol.file_records import ArtifactRecord, ArtifactUseRecord
from runfold.protocol.frames import Frame
from runfold.protocol.manifest import Entry, Manifest
from runfold.protocol.records import ExitRecord, Record, RecordKind
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.artifacts.committing import Committed
from runfold_coordinator.artifacts.drafts import About, Draft
from runfold_coordinator.artifacts.service import Artifacts
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Collector
from runfold_coordinator.blobs.places import LocalPlace
from runfold_coordinator.live_facts import LiveFacts
from runfold_coordinator.store.store import Store
from support.frames import START_NS, Bench, Speaker
from support.manifest_entries import entry_of, file_entry

DAY_S = 86_400.0
_ABOUT = ("aliases", "tags", "links", "metadata", "ttl", "incremental")


def new_id() -> str:
    return secrets.token_hex(16)


class Process:
    """A process of a run, on a machine of its own unless said otherwise."""

    def __init__(self, desk: Desk, run_id: str, rank: int, *, host: str | None = None, **facts: Any) -> None:
        self._desk = desk
        self.speaker = Speaker(secrets.token_bytes(16), f"e/p/{run_id}")
        self.run_id = run_id
        self.host = host or f"node{rank}"
        desk.bench.feed(self.speaker.hello(host=self.host, boot_id=f"boot-{self.host}", rank=rank, **facts))

    @property
    def writer_id(self) -> str:
        return self.speaker.writer_id

    @property
    def run_pk(self) -> int:
        run = self._desk.store.find_run("e", "p", self.run_id)
        assert run is not None
        return run.run_pk

    def said(self, kind: RecordKind, payload: bytes) -> Frame:
        """A record that is said now, and may be fed later."""
        self.speaker.seq += 1
        seq = self.speaker.seq
        record = Record(seq, int(self._desk.clock.unix_s() * 1e9), int(kind), 0, payload)
        return Frame(self.speaker.writer, self.speaker.run_path, seq, seq, others=(record,))

    def logs(self, draft: Draft, *, feed: bool = True) -> Frame:
        """The ARTIFACT record of a draft."""
        record = ArtifactRecord(
            client_id=draft.client_id,
            name=draft.name,
            type=draft.type,
            digest=draft.digest,
            distributed_id=draft.distributed_id,
            finalize=draft.finalize,
        )
        frame = self.said(RecordKind.ARTIFACT, record.pack())
        if feed:
            self._desk.bench.feed(frame)
        return frame

    def uses(self, artifact: str, use_as: str | None = None) -> None:
        record = ArtifactUseRecord(artifact, use_as)
        self._desk.bench.feed(self.said(RecordKind.ARTIFACT_USE, record.pack()))

    def ends(self) -> None:
        self._desk.bench.feed(self.said(RecordKind.EXIT, ExitRecord(0).pack()))
        self._desk.bench.board.tick()

    def beats(self) -> None:
        """A heartbeat of its agent, which tells how far it has come."""
        writer = WriterBeat(self.speaker.writer, self.speaker.seq, None)
        self._desk.bench.liveness.hear(
            Heartbeat("node", self.host, f"boot-{self.host}", self._desk.clock.unix_s(), 5.0, (writer,))
        )

    def draft(self, files: Mapping[str, bytes], name: str = "model", **more: Any) -> Draft:
        return self._desk.draft(files, name, run_pk=self.run_pk, writer_id=self.writer_id, **more)


class Desk:
    """The parts over one store, with a clock that is told."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.bench = Bench(store)
        self.clock = self.bench.clock
        self.blobs = Blobs(store, LocalPlace(folder / "blobs"), self.clock, min_age_s=3600.0)
        live_facts = LiveFacts(self.clock)
        live_facts.add(self.bench.liveness)
        self.artifacts = Artifacts(
            store, self.blobs, self.clock, live_facts, digest_log=folder / "manifest-digests"
        )
        self.reader = self.artifacts.reader

    def process(self, run_id: str = "r1", rank: int = 0, **facts: Any) -> Process:
        return Process(self, run_id, rank, **facts)

    def manifest(self, files: Mapping[str, bytes | Entry], *, upload: bool = True) -> Manifest:
        """Return the manifest of files, which are here then, as it is itself."""
        entries = {}
        for name, content in files.items():
            if isinstance(content, Entry):
                entries[name] = content
            else:
                if upload:
                    self.blobs.put(content)
                entries[name] = file_entry(content) if upload else entry_of("0" * 64, len(content))
        return Manifest(entries)

    def draft(self, files: Mapping[str, bytes | Entry], name: str = "model", **more: Any) -> Draft:
        manifest = self.manifest(files)
        about = {key: more.pop(key) for key in _ABOUT if key in more}
        facts: dict[str, Any] = {
            "client_id": new_id(),
            "entity": "e",
            "project": "p",
            "type": "model",
            "manifest": self.blobs.put(manifest.pack()),
            "digest": manifest.digest,
            "said_unix_ns": int(self.clock.unix_s() * 1e9),
            "about": About(**about),
        }
        return Draft(name=name, **(facts | more))

    def commit(self, draft: Draft) -> Committed:
        return self.artifacts.committer.commit(draft)

    def log(self, files: Mapping[str, bytes | Entry], name: str = "model", **more: Any) -> dict[str, Any]:
        """Commit files and return the document."""
        draft = self.draft(files, name, **more)
        self.commit(draft)
        return self.reader.draft(draft.client_id)

    def find(self, name: str, project: str = "p") -> dict[str, Any]:
        """Return "name" or "name:version"."""
        collection, _, version = name.partition(":")
        return self.reader.find("e", project, collection, version or None)

    def files(self, document: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the contents of a version's files by name."""
        found = {}
        with self.blobs.open(document["manifest"]) as file:
            for name, entry in Manifest.unpack(file.read()).entries.items():
                with self.blobs.open(entry.blob) as blob:
                    found[name] = blob.read()
        return found

    def pass_s(self, seconds: float) -> None:
        self.clock.now_s += seconds

    def sweep(self) -> int:
        """Collect what nobody refers to and is old; return how many blobs went."""
        collector = Collector(self.store, self.blobs)
        collector.add_root_numbers(self.artifacts.roots.numbers)
        return collector.collect().count


class Job(Desk):
    """Ranks of one shared run that write "ckpt" together."""

    def ranks(self, count: int, **facts: Any) -> list[Process]:
        return [self.process("job", rank, **facts) for rank in range(count)]

    def part(self, process: Process, files: dict[str, bytes], *, finish: bool = False, **more: Any) -> Draft:
        """A part, or a finish, that the process says now."""
        self.pass_s(0.01)
        return process.draft(files, "ckpt", distributed_id="d", finalize=finish, **more)

    def settle(self, after_s: float = 0.0) -> None:
        self.pass_s(after_s)
        self.artifacts.settler.turn()

    def catch_up(self, ranks: list[Process]) -> None:
        """Let the finish be two seconds ago, and heartbeats tell that nothing is on its way."""
        self.pass_s(2.0)
        for process in ranks:
            process.beats()
        self.settle()

    def version(self, number: int) -> dict[str, Any]:
        return self.find(f"ckpt:v{number}")

    def names(self, document: dict[str, Any]) -> list[str]:
        return [each["name"] for each in self.reader.files(document["id"], limit=1000).items]


__all__ = ["DAY_S", "START_NS", "Desk", "Job", "Process", "new_id"]
