"""Names in Redis and the heartbeat."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import samples
from runfold.protocol import streams
from runfold.protocol.errors import ProtocolError, VersionError
from runfold.protocol.streams import Heartbeat, StopRequest, WriterBeat
from runfold.protocol.values import pack_value, unpack_value


def test_keys_of_a_partition_share_a_hash_tag() -> None:
    keys = streams.data_stream(3), streams.control_stream(3), streams.downlink(3)
    assert keys == ("rf:{3}:in", "rf:{3}:ctl", "rf:{3}:down")


def test_fields_name_the_writer() -> None:
    assert streams.ack_field(b"\x01" * 16) == b"a:" + b"01" * 16
    assert streams.stop_field(b"\x01" * 16) == b"stop:" + b"01" * 16


@given(st.text(), st.none() | st.text(), st.integers(1, 64))
def test_partitions_are_in_range_and_stable(path: str, group: str | None, partitions: int) -> None:
    found = streams.partition_of(path, group, partitions)
    assert 0 <= found < partitions
    assert found == streams.partition_of(path, group, partitions)


def test_runs_of_a_group_share_a_partition_and_others_spread() -> None:
    assert len({streams.partition_of(f"e/p/{run}", "g", 16) for run in range(50)}) == 1
    assert len({streams.partition_of(f"e/p/{run}", None, 16) for run in range(200)}) == 16
    assert len({streams.partition_of(f"e/p{project}/r", "g", 16) for project in range(200)}) == 16
    assert streams.partition_of("e/p/r", None, 1) == 0


def test_the_number_of_a_partition_never_changes() -> None:
    # Streams outlive processes: another hash would split a run.
    assert [streams.partition_of("e/p/r", group, 1024) for group in (None, "g")] == [724, 356]


WRITER_BEATS = st.builds(
    WriterBeat, st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1), st.none() | st.booleans()
)


@given(st.lists(WRITER_BEATS, max_size=5).map(tuple), st.floats(allow_nan=False), st.text("ab/-"))
def test_a_heartbeat_comes_back(writers: tuple[WriterBeat, ...], unix_s: float, node: str) -> None:
    beat = Heartbeat(node, "h", "b", unix_s, 1.0, writers)
    assert Heartbeat.unpack(beat.pack()) == beat


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"writers": [[b"short", 1, 1]]},
        {"writers": [1]},
        {"writers": [[b"x" * 16, "1", 1]]},
        {"writers": [[b"x" * 16, 1, 2]]},
        {"writers": None},
        {"unix_s": "soon"},
        {"interval_s": 10**400},
    ],
)
def test_a_wrong_heartbeat_is_refused(change: dict[str, Any]) -> None:
    message = unpack_value(samples.HEARTBEAT.pack())
    with pytest.raises(ProtocolError):
        Heartbeat.unpack(pack_value({**message, **change}))


def test_a_newer_heartbeat_says_so() -> None:
    with pytest.raises(VersionError):
        Heartbeat.unpack(pack_value({**unpack_value(samples.HEARTBEAT.pack()), "v": 2}))


def test_a_stop_request_comes_back() -> None:
    for request in (StopRequest("r", "eve@here", 0.0), StopRequest("r", "é\n", 86_400.0, is_whole=True)):
        assert StopRequest.unpack(request.pack()) == request


@pytest.mark.parametrize(
    "change",
    [{"grace_s": -1}, {"grace_s": 86_401}, {"grace_s": float("nan")}, {"grace_s": "soon"}, {"grace_s": None}],
)
def test_a_wrong_stop_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        StopRequest.unpack(pack_value(StopRequest("r", "eve", 1.0).to_map() | change))
    with pytest.raises(ProtocolError):
        StopRequest.unpack(pack_value([1]))
