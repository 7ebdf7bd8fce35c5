"""Version 1 of the wire decodes for ever, to the same values."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import samples
from runfold.protocol.frames import decode_frame, encode_frame
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import unpack_definition
from runfold.protocol.streams import Heartbeat

V1 = Path(samples.__file__).parent / "v1"


@pytest.mark.parametrize("kind", list(samples.PAYLOADS), ids=lambda kind: kind.name)
def test_every_payload_of_version_1_decodes(kind: RecordKind) -> None:
    golden = (V1 / f"{kind.name.lower()}.msgpack").read_bytes()
    assert type(samples.PAYLOADS[kind]).unpack(golden) == samples.PAYLOADS[kind]


def test_there_is_golden_for_every_kind_of_payload() -> None:
    rows = {RecordKind.ROW, RecordKind.SCHEMA}
    assert set(samples.PAYLOADS) | rows == set(RecordKind)


def test_the_schema_of_version_1_decodes() -> None:
    golden = (V1 / "schema.msgpack").read_bytes()
    assert unpack_definition(golden) == (samples.SCHEMA_ID, samples.SCHEMA)


def test_the_frame_of_version_1_decodes() -> None:
    assert decode_frame((V1 / "frame.msgpack").read_bytes()) == samples.FRAME


def test_the_heartbeat_of_version_1_decodes() -> None:
    assert Heartbeat.unpack((V1 / "heartbeat.msgpack").read_bytes()) == samples.HEARTBEAT


def test_version_1_is_what_is_written_today() -> None:
    # A changed byte here is a new version of the format, not a new golden file.
    assert encode_frame(samples.FRAME) == (V1 / "frame.msgpack").read_bytes()
    for kind, payload in samples.PAYLOADS.items():
        assert payload.pack() == (V1 / f"{kind.name.lower()}.msgpack").read_bytes()
