"""Frames: what is encoded comes back; what does not cover its records exactly once is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import samples
from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.errors import DecodeError, LimitError, VersionError
from runfold.protocol.frames import Envelope, Frame, decode_frame, encode_frame, peek_frame
from runfold.protocol.limits import MAX_FRAME_BYTES, MAX_RECORD_BYTES
from runfold.protocol.records import Record

UINT64 = st.integers(0, 2**64 - 1)


def block_of(seqs: list[int], kinds: str, filler: bytes) -> RowBlock:
    n = len(seqs)
    contiguous = seqs[-1] - seqs[0] == n - 1
    column = (filler * (8 * n))[: 8 * n]
    return RowBlock(
        paths=tuple((f"k{index}", kinds) for index in range(len(kinds))),
        kinds=kinds,
        n=n,
        seqs=seqs[0] if contiguous else struct.pack(f"<{n}Q", *seqs),
        t_ns=column,
        steps=column,
        flags=3 if filler < b"\x80" else bytes(n),
        columns=(column,) * len(kinds),
    )


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Every seq of lo..hi goes to one of three blocks, to the others, or to a gap."""
    lo = draw(st.integers(1, 2**62))
    owners = draw(st.lists(st.sampled_from("abcog"), min_size=1, max_size=30))
    seqs: dict[str, list[int]] = {owner: [] for owner in "abcog"}
    for offset, owner in enumerate(owners):
        seqs[owner].append(lo + offset)
    gaps: list[Gap] = []
    for seq in seqs["g"]:
        if gaps and gaps[-1].hi == seq - 1 and draw(st.booleans()):
            gaps[-1] = Gap(gaps[-1].lo, seq, gaps[-1].why)
        else:
            gaps.append(Gap(seq, seq, draw(st.sampled_from(["disk full", "damaged"]))))
    return Frame(
        writer=draw(st.binary(min_size=16, max_size=16)),
        run_path="e/p/" + draw(st.text("abc-", min_size=1)),
        lo=lo,
        hi=lo + len(owners) - 1,
        blocks=tuple(
            block_of(seqs[owner], draw(st.text("dq?", max_size=4)), draw(st.binary(min_size=1, max_size=9)))
            for owner in "abc"
            if seqs[owner]
        ),
        others=tuple(
            Record(
                seq,
                draw(UINT64),
                draw(st.integers(0, 65535)),
                draw(st.integers(0, 65535)),
                draw(st.binary(max_size=20)),
            )
            for seq in seqs["o"]
        ),
        gaps=tuple(gaps),
        auth=draw(st.binary(max_size=8)),
    )


@given(frames())
def test_a_frame_comes_back(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(frames(), st.integers(-2, 32))
def test_the_rest_of_a_frame_is_a_frame(frame: Frame, offset: int) -> None:
    seq = frame.lo + offset
    rest = frame.after(seq)
    if seq >= frame.hi:
        assert rest is None
        return
    assert rest is not None
    assert (rest.lo, rest.hi) == (max(frame.lo, seq + 1), frame.hi)
    assert decode_frame(encode_frame(rest)) == rest


@given(frames())
def test_an_envelope_can_be_read_of_a_frame_with_a_broken_inside(frame: Frame) -> None:
    broken = msgpack.unpackb(encode_frame(frame))
    broken["b"] = "no"
    data = msgpack.packb(broken)
    with pytest.raises(DecodeError):
        decode_frame(data)
    assert peek_frame(data) == Envelope(frame.writer, frame.run_path, frame.lo, frame.hi)


def test_nothing_can_be_read_of_other_bytes() -> None:
    assert peek_frame(b"") is None
    assert peek_frame(b"\xc0") is None
    assert peek_frame(encode_frame(samples.FRAME)[:-1]) is None


def test_a_newer_version_says_so() -> None:
    with pytest.raises(VersionError):
        decode_frame(msgpack.packb({**msgpack.unpackb(encode_frame(samples.FRAME)), "v": 2}))


def test_unknown_keys_are_for_newer_readers() -> None:
    assert (
        decode_frame(msgpack.packb({**msgpack.unpackb(encode_frame(samples.FRAME)), "new": [1]}))
        == samples.FRAME
    )


def changed(path: list[Any], value: Any) -> bytes:
    frame = msgpack.unpackb(encode_frame(samples.FRAME))
    inside = frame
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    return msgpack.packb(frame)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["v"], 0),
        (["v"], True),
        (["v"], "1"),
        (["w"], b"short"),
        (["w"], "x" * 16),
        (["r"], "e/p"),
        (["r"], 5),
        (["r"], "e/p/" + "x" * 2000),
        (["lo"], 0),
        (["lo"], 99),
        (["lo"], 101),
        (["hi"], 118),
        (["hi"], 120),
        (["hi"], 2**63),
        (["b"], {}),
        (["b", 0], []),
        (["b", 0, "n"], 2),
        (["b", 0, "n"], 0),
        (["b", 0, "n"], -1),
        (["b", 0, "n"], True),
        (["b", 0, "n"], 2**60),
        (["b", 0, "y"], "ddq"),
        (["b", 0, "y"], "ddqx"),
        (["b", 0, "k"], [["loss"], ["loss"], ["a"], ["b"]]),
        (["b", 0, "k"], ["loss", "a", "b", "c"]),
        (["b", 0, "c"], []),
        (["b", 0, "c", 1], b"12345678"),
        (["b", 0, "c", 1], "x" * 24),
        (["b", 0, "t"], b""),
        (["b", 0, "s"], None),
        (["b", 0, "f"], 256),
        (["b", 0, "f"], b"\0"),
        (["b", 0, "q"], 99),
        (["b", 0, "q"], 101),
        (["b", 0, "q"], 0),
        (["b", 0, "q"], 2**63),
        (["b", 1, "q"], struct.pack("<2Q", 105, 103)),
        (["b", 1, "q"], struct.pack("<2Q", 103, 103)),
        (["b", 1, "q"], struct.pack("<2Q", 103, 104)),
        (["b", 1, "q"], struct.pack("<2Q", 0, 105)),
        (["b", 1, "q"], struct.pack("<2Q", 103, 2**64 - 1)),
        (["o", 0], [107]),
        (["o", 0, 0], 108),
        (["o", 0, 0], 1),
        (["o", 0, 0], True),
        (["o", 0, 1], -1),
        (["o", 0, 2], 65536),
        (["o", 0, 3], -1),
        (["o", 0, 4], "text"),
        (["g", 0], [109, 112]),
        (["g", 0, 0], 110),
        (["g", 0, 0], 108),
        (["g", 0, 1], 2**63),
        (["g", 0, 1], 108),
        (["g", 0, 2], 5),
        (["x"], "text"),
    ],
)
def test_a_frame_with_one_wrong_part_is_refused(path: list[Any], value: Any) -> None:
    with pytest.raises((DecodeError, LimitError)):
        decode_frame(changed(path, value))


def test_a_gap_may_be_as_wide_as_the_seqs() -> None:
    frame = Frame(bytes(16), "e/p/r", 1, 2**62, gaps=(Gap(1, 2**62, "lost"),))
    assert decode_frame(encode_frame(frame)) == frame


def test_a_wide_range_with_few_records_is_refused_quickly() -> None:
    with pytest.raises(DecodeError):
        decode_frame(changed(["hi"], 2**62))


def test_the_largest_record_fits_a_frame() -> None:
    record = Record(1, 0, 13, 0, bytes(MAX_RECORD_BYTES))
    frame = Frame(bytes(16), "e/p/" + "r" * 900, 1, 1, others=(record,))
    assert decode_frame(encode_frame(frame)) == frame


def test_larger_frames_are_refused_on_both_sides() -> None:
    half = bytes(MAX_FRAME_BYTES // 2)
    frame = Frame(bytes(16), "e/p/r", 1, 2, others=(Record(1, 0, 13, 0, half), Record(2, 0, 13, 0, half)))
    with pytest.raises(LimitError):
        encode_frame(frame)
    with pytest.raises(LimitError):
        decode_frame(bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(LimitError):
        decode_frame(
            encode_frame(replace(frame, hi=1, others=(Record(1, 0, 13, 0, bytes(MAX_RECORD_BYTES + 1)),)))
        )
