"""Manifests as streams: the same as Manifest.pack makes and reads, in little memory; nothing else is taken."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold.protocol.errors import LimitError, ProtocolError
from runfold.protocol.manifest import Entry, Manifest
from runfold_coordinator.artifacts import manifest_stream
from runfold_coordinator.artifacts.manifest_stream import (
    ManifestSums,
    Mark,
    packed_entries,
    read_entries,
    summed,
)
from support.manifest_entries import entry_of

A, B = "a" * 64, "b" * 64

names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "So")), min_size=1, max_size=12)
entries = st.one_of(
    st.builds(entry_of, st.sampled_from([A, B]), st.integers(0, 2**40)),
    st.builds(
        Entry,
        st.text(max_size=8),
        st.none() | st.integers(0, 9),
        st.just("s3://bucket/ключ"),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        st.sampled_from([None, A, B]),
    ),
)


def good(found: dict[str, Entry]) -> dict[str, Entry]:
    kept = {}
    for name, entry in found.items():
        try:
            Manifest.unpack(Manifest({name: entry}).pack())
        except ProtocolError:
            continue
        kept[name] = entry
    return kept


class Dripping(io.RawIOBase):
    """Gives a few bytes at a time, as a connection may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, self._step))


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(names, entries, max_size=12).map(good), st.integers(1, 7))
def test_reads_and_writes_what_manifests_are(found: dict[str, Entry], step: int) -> None:
    manifest = Manifest(found)
    sums = ManifestSums()
    read = dict(summed(read_entries(Dripping(manifest.pack(), step)), sums))
    assert read == found
    both = manifest.sums
    assert (sums.digest, sums.content_digest) == (both.digest, both.content_digest)
    assert (sums.size, sums.count) == (manifest.size, len(found))
    assert b"".join(packed_entries((name, found[name]) for name in sorted(found))) == manifest.pack()


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(names, entries, max_size=9).map(good), st.integers(1, 40))
def test_from_each_mark_the_rest_is_read(found: dict[str, Entry], step: int) -> None:
    data = Manifest(found).pack()
    marks: list[Mark] = []
    whole = list(read_entries(Dripping(data, step), on_mark=marks.append, mark_every=1))
    assert [mark.name for mark in marks] == [name for name, _ in whole[:-1]]
    for count, mark in enumerate(marks, start=1):
        rest = Dripping(data[mark.position :], step)
        assert list(read_entries(rest, since=mark)) == whole[count:]


def packed(*pairs: tuple[str, Entry]) -> bytes:
    said = ",".join(f"{json.dumps(name)}:{json.dumps(entry.to_map())}" for name, entry in pairs)
    return f'{{"v":1,"entries":{{{said}}}}}'.encode()


FILE = entry_of(A)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "version"),
        (b'{"v":2,"entries":{}}', "version"),
        (b'{"v":1,"entries":[]}', "version"),
        (packed(("b", FILE), ("a", FILE)), "ascending"),
        (packed(("a", FILE), ("a", FILE)), "ascending"),
        (packed(("../a", FILE)), "no name"),
        (packed(("a", FILE)) + b" ", "after"),
        (packed(("a", FILE))[:-1], "version"),
        (packed(("a", FILE))[:-3], "cut off"),
        (packed(("a", FILE)).replace(b'"a"', b"\xff"), "UTF-8"),
        (packed(("a", FILE)).replace(A.encode(), b"x" * 64), "SHA-256"),
        (b'{"v":1,"entries":{1:2}}', "ascending"),
        (b'{"v":1,"entries":{"a":' + b"[" * 50_000, "cut off"),
        (b'{"v":1,"entries":{"' + b"a" * 200_000, "cut off"),
    ],
)
def test_anything_else_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        list(read_entries(io.BytesIO(data)))


def test_cut_anywhere_it_is_refused() -> None:
    whole = packed(("a", FILE), ("b", Entry("etag", None, "s3://b/k", {"x": 1})))
    for at in range(len(whole)):
        with pytest.raises(ProtocolError):
            list(read_entries(io.BytesIO(whole[:at])))


def test_limits_hold_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_stream, "MAX_ENTRIES", 2)
    three = [(name, FILE) for name in "abc"]
    with pytest.raises(LimitError):
        list(read_entries(io.BytesIO(packed(*three))))
    with pytest.raises(LimitError):
        list(packed_entries(three))
    monkeypatch.setattr(manifest_stream, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(LimitError):
        list(read_entries(io.BytesIO(packed(*three[:2]))))
    with pytest.raises(LimitError):
        list(packed_entries(three[:2]))


def test_memory_does_not_grow_with_the_entries() -> None:
    def many() -> Iterator[tuple[str, Entry]]:
        for number in range(20_000):
            yield f"folder/{number:08d}", entry_of(f"{number:064x}", number)

    data = b"".join(packed_entries(many()))
    tracemalloc.start()
    try:
        sums = ManifestSums()
        for _ in summed(read_entries(io.BytesIO(data)), sums):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sums.count == 20_000
    assert peak < 2_000_000 < len(data)
