"""Records: one thing said by a process, its kind, and the payload of each kind but plain rows.

Every payload class has `pack() -> bytes` and `unpack(payload)`, which raises ProtocolError on anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar, Self

from runfold.protocol.errors import DecodeError
from runfold.protocol.keypath import KeyPath, check_path
from runfold.protocol.values import pack_value, unpack_value

#: A type, or several, by field name; as isinstance takes them.
FieldTypes = dict[str, type | tuple[type, ...]]


class RecordKind(IntEnum):
    """Kinds of records. Numbers are for ever; a reader keeps kinds that it does not know as they are."""

    ROW = 1
    ROW_MAP = 2
    #: Has seq 0 and is not counted: it only tells a spool's reader what ROW slots mean.
    SCHEMA = 3
    WRITER = 10
    RUN = 11
    CONFIG = 12
    SUMMARY = 13
    METRIC = 14
    EXIT = 15
    SIGNAL = 16
    GAP = 17
    PREEMPTING = 18
    ALERT = 19
    CONSOLE = 20
    #: What somebody else saw of a writer's process; in the spool of the node's agent.
    EVIDENCE = 21
    #: What a node consists of; in the spool of the node's agent.
    NODE = 22
    #: Files and artifacts: see protocol/file_records.py.
    FILE = 23
    ARTIFACT = 24
    ARTIFACT_USE = 25


@dataclass(frozen=True, slots=True)
class Record:
    """A record that is not a schema-coded row. `kind` may be a number that no RecordKind has."""

    seq: int
    t_ns: int  # wall clock, unix
    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class RowMap:
    """A row whose keys change or whose values are not all numbers. Flags as for a row."""

    step: int
    values: tuple[tuple[KeyPath, Any], ...]

    def pack(self) -> bytes:
        """Return the payload; a path of one part travels as a plain str."""
        return pack_value(
            [self.step, [[path[0] if len(path) == 1 else list(path), value] for path, value in self.values]]
        )

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the row in `payload`."""
        parts = unpack_value(payload)
        if not isinstance(parts, list) or len(parts) != 2:
            raise DecodeError("a row is [step, values]", field="payload")
        step, values = parts
        if not _is_int64(step):
            raise DecodeError("a step is an int64", field="step")
        if not isinstance(values, list) or not all(
            isinstance(pair, list) and len(pair) == 2 for pair in values
        ):
            raise DecodeError("values are [path, value] pairs", field="values")
        return cls(step, tuple((_path(path), value) for path, value in values))


@dataclass(frozen=True, slots=True)
class SummaryRecord:
    """Summary values set or deleted by hand, in order: ("set", path, value) or ("del", path)."""

    changes: tuple[tuple[str, KeyPath, Any] | tuple[str, KeyPath], ...]

    def pack(self) -> bytes:
        """Return the payload."""
        return pack_value([[change[0], list(change[1]), *change[2:]] for change in self.changes])

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the changes in `payload`."""
        parts = unpack_value(payload)
        if not isinstance(parts, list):
            raise DecodeError("a summary record is a list", field="payload")
        return cls(tuple(map(cls._change, parts)))

    @staticmethod
    def _change(part: Any) -> tuple[str, KeyPath, Any] | tuple[str, KeyPath]:
        if isinstance(part, list):
            if len(part) == 3 and part[0] == "set":
                return ("set", _path(part[1]), part[2])
            if len(part) == 2 and part[0] == "del":
                return ("del", _path(part[1]))
        raise DecodeError("a summary change is set or del", field="payload")


@dataclass(frozen=True, slots=True)
class MapPayload:
    """A payload that is one map; a field's name is its key, unknown keys are for newer readers."""

    #: Type that each field must have when it is not None; a field that is not listed may be anything.
    TYPES: ClassVar[FieldTypes] = {}
    #: Fields that may not be missing or None.
    REQUIRED: ClassVar[frozenset[str]] = frozenset()
    #: Field names that are not the key in the map.
    KEYS: ClassVar[dict[str, str]] = {}
    #: Fields younger than version 1: they travel only where they differ from their default.
    YOUNG: ClassVar[frozenset[str]] = frozenset()

    def to_map(self) -> dict[str, Any]:
        """Return the map that travels."""
        return {
            self.KEYS.get(one.name, one.name): value
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default or one.name not in self.YOUNG
        }

    def pack(self) -> bytes:
        """Return the payload."""
        return pack_value(self.to_map())

    @classmethod
    def from_map(cls, found: Any) -> Self:
        """Return the payload in a decoded map; DecodeError if a field is missing or of the wrong type."""
        if not isinstance(found, dict):
            raise DecodeError(f"{cls.__name__} is a map", field="payload")
        said: dict[str, Any] = {}
        for one in fields(cls):
            value = found.get(cls.KEYS.get(one.name, one.name))
            if value is None:
                if one.name in cls.REQUIRED:
                    raise DecodeError(f"{cls.__name__} without {one.name}", field=one.name)
                continue
            said[one.name] = cls._checked(one.name, value)
        return cls(**said)

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        wanted: Any = cls.TYPES.get(name, object)
        # Not yet packed lists may be tuples.
        value = list(value) if wanted is list and isinstance(value, tuple) else value
        # bool is an int in Python, not on the wire.
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted not in (bool, object)):
            raise DecodeError(f"{cls.__name__}.{name} is not a {type(value).__name__}", field=name)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise DecodeError(f"{cls.__name__}.{name} is not an int64", field=name)
        if wanted is list:
            if not all(isinstance(item, str) for item in value):
                raise DecodeError(f"{cls.__name__}.{name} holds str only", field=name)
            return tuple(value)
        return value

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return what `payload` says."""
        return cls.from_map(unpack_value(payload))


@dataclass(frozen=True, slots=True)
class RunRecord(MapPayload):
    """Fields of the run that were changed; None means not said."""

    name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] | None = None

    TYPES: ClassVar[FieldTypes] = {"name": str, "notes": str, "tags": list}


@dataclass(frozen=True, slots=True)
class ConfigRecord(MapPayload):
    """Top-level config keys set (values whole) and deleted."""

    set: dict[str, Any] | None = None
    delete: tuple[str, ...] = ()

    TYPES: ClassVar[FieldTypes] = {"set": dict, "delete": list}
    KEYS: ClassVar[dict[str, str]] = {"delete": "del"}


@dataclass(frozen=True, slots=True)
class MetricRecord(MapPayload):
    """One define_metric() call as said; None means not said."""

    name: str = ""
    step_metric: str | None = None
    step_sync: bool | None = None
    hidden: bool | None = None
    summary: tuple[str, ...] | None = None
    goal: str | None = None
    overwrite: bool | None = None
    reduce: str | None = None
    weight: str | None = None
    #: "equal": all ranks must log the same, but for `rtol` (a ratio) and `atol`.
    expect: str | None = None
    rtol: float | None = None
    atol: float | None = None

    TYPES: ClassVar[FieldTypes] = {
        "name": str,
        "step_metric": str,
        "step_sync": bool,
        "hidden": bool,
        "summary": list,
        "goal": str,
        "overwrite": bool,
        "reduce": str,
        "weight": str,
        "expect": str,
        "rtol": (int, float),
        "atol": (int, float),
    }
    YOUNG: ClassVar[frozenset[str]] = frozenset({"expect", "rtol", "atol"})
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"name"})


@dataclass(frozen=True, slots=True)
class ExitRecord(MapPayload):
    """How a process ended, in its own words; `how` is finish, atexit, exception, sys.exit or context."""

    code: int = 0
    how: str = "finish"
    exception: str | None = None
    traceback: str | None = None
    runtime_s: float | None = None

    TYPES: ClassVar[FieldTypes] = {
        "code": int,
        "how": str,
        "exception": str,
        "traceback": str,
        "runtime_s": (int, float),
    }
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"code", "how"})


@dataclass(frozen=True, slots=True)
class SignalRecord(MapPayload):
    """A signal that the process received; the sender is None where the kernel did not say."""

    signum: int = 0
    name: str | None = None
    sender_pid: int | None = None
    sender_uid: int | None = None

    TYPES: ClassVar[FieldTypes] = {"signum": int, "name": str, "sender_pid": int, "sender_uid": int}
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"signum"})


@dataclass(frozen=True, slots=True)
class GapRecord(MapPayload):
    """Records lo..hi could not be kept; this record's own seq is hi+1."""

    lo: int = 0
    hi: int = 0
    why: str = ""

    TYPES: ClassVar[FieldTypes] = {"lo": int, "hi": int, "why": str}
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"lo", "hi", "why"})


@dataclass(frozen=True, slots=True)
class PreemptingRecord(MapPayload):
    """The process was told that it will be taken away."""

    source: str | None = None
    grace_s: float | None = None
    message: str | None = None

    TYPES: ClassVar[FieldTypes] = {"source": str, "grace_s": (int, float), "message": str}


@dataclass(frozen=True, slots=True)
class AlertRecord(MapPayload):
    """A message for people. `level` is INFO, WARN or ERROR."""

    title: str = ""
    text: str | None = None
    level: str | None = None
    wait_duration_s: float | None = None

    TYPES: ClassVar[FieldTypes] = {"title": str, "text": str, "level": str, "wait_duration_s": (int, float)}
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"title"})


@dataclass(frozen=True, slots=True)
class ConsoleRecord(MapPayload):
    """Lines of console output, without their line ends; the record's time is that of the first line.

    Attributes:
        stream: stdout, stderr, output (both of them, where they went to one place), or logger
            (Run.write_logs).
        first_line: Number of the first of these lines; they count from 0 per stream, dropped ones included.
        offsets_ms: For each line, milliseconds after the record's time, as uint32 little-endian; b"": all 0.
        dropped: Lines right before the first one that were not kept, since there were too many.
        open_count: So many of the last lines are not complete (a progress bar, a prompt): each comes again
            under its number when it changed, and when it is complete.
    """

    stream: str = "stdout"
    first_line: int = 0
    lines: tuple[str, ...] = ()
    offsets_ms: bytes = b""
    dropped: int = 0
    open_count: int = 0

    TYPES: ClassVar[FieldTypes] = {
        "stream": str,
        "first_line": int,
        "lines": list,
        "offsets_ms": bytes,
        "dropped": int,
        "open_count": int,
    }
    YOUNG: ClassVar[frozenset[str]] = frozenset({"offsets_ms", "dropped", "open_count"})
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"stream", "first_line"})


@dataclass(frozen=True, slots=True)
class EvidenceRecord(MapPayload):
    """What somebody saw of a writer's process; see `protocol.evidence` for sources and their facts.

    Attributes:
        writer: Whose process, id in hex.
        source: Who saw it and how, as `protocol.evidence` names it.
    """

    writer: str = ""
    source: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    TYPES: ClassVar[FieldTypes] = {"writer": str, "source": str, "facts": dict}
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"writer", "source"})


@dataclass(frozen=True, slots=True)
class NodeRecord(MapPayload):
    """What a node consists of, as its agent found it.

    Attributes:
        gpus: One map a device: index, uuid, name, memory_bytes, and what else the driver says.
        facts: Everything else: cpu_count, memory_bytes, os, kernel, driver, ...
    """

    host: str = ""
    boot_id: str = ""
    gpus: tuple[dict[str, Any], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    TYPES: ClassVar[FieldTypes] = {"host": str, "boot_id": str, "facts": dict}
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"host", "boot_id"})

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        if name != "gpus":
            return super(NodeRecord, cls)._checked(name, value)
        if not isinstance(value, list | tuple) or not all(isinstance(gpu, dict) for gpu in value):
            raise DecodeError("NodeRecord.gpus is a list of maps", field=name)
        return tuple(value)


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _path(path: Any) -> KeyPath:
    if isinstance(path, str):
        return check_path((path,))
    if not isinstance(path, list) or not path or not all(isinstance(part, str) for part in path):
        raise DecodeError("a key path is a str or a list of str", field="path")
    return check_path(tuple(path))
