"""A block: consecutive or interleaved rows of one key set, as little-endian columns; and a declared gap."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, replace
from typing import Any, Self

from runfold.protocol.errors import DecodeError, LimitError
from runfold.protocol.keypath import KeyPath
from runfold.protocol.limits import MAX_SEQ
from runfold.protocol.rows import ROW_FIXED_BYTES, RowSchema, check_columns, unpack_paths

#: 8n bytes: a column of n values.
Column = bytes
#: Key sets of at most so many keys are remembered once they are checked.
_CACHED_KEYS = 256


@dataclass(frozen=True, slots=True)
class Gap:
    """Records lo..hi that will never come, and why."""

    lo: int
    hi: int
    why: str


@dataclass(frozen=True, slots=True)
class RowBlock:
    """`n` rows with the same keys, in seq order.

    `seqs`: the first seq when they are contiguous, else uint64[n]. `t_ns`: uint64[n], unix wall clock.
    `steps`: int64[n]. `flags`: one int for all rows, else uint8[n]. `columns`: one per key, float64[n] for
    kind "d", int64[n] for "q" and "?" (0 or 1). All as little-endian bytes.
    """

    paths: tuple[KeyPath, ...]
    kinds: str
    n: int
    seqs: int | bytes
    t_ns: bytes
    steps: bytes
    flags: int | bytes
    columns: tuple[Column, ...]

    @classmethod
    def from_rows(cls, schema: RowSchema, body: memoryview, n: int) -> Self:
        """Transpose `n` row records of `schema`, headers included, that lie one after another in `body`."""
        stride = schema.record_bytes
        words = body[: n * stride].cast("Q")
        step_words = stride // 8
        first, last = words[1], words[(n - 1) * step_words + 1]
        flags = body[26 : n * stride : stride].tobytes()
        return cls(
            paths=schema.paths,
            kinds=schema.kinds,
            n=n,
            seqs=first if last - first == n - 1 else words[1::step_words].tobytes(),
            t_ns=words[2::step_words].tobytes(),
            steps=words[4::step_words].tobytes(),
            flags=flags[0] if flags.count(flags[:1]) == n else flags,
            columns=tuple(
                words[word::step_words].tobytes() for word in range(ROW_FIXED_BYTES // 8, step_words)
            ),
        )

    def seq_list(self) -> list[int]:
        """Return the seq of each row."""
        if isinstance(self.seqs, int):
            return list(range(self.seqs, self.seqs + self.n))
        return memoryview(self.seqs).cast("Q").tolist()

    def after(self, seq: int) -> Self | None:
        """Return the rows whose seq is above `seq`; None when there are none."""
        if isinstance(self.seqs, int):
            skip = max(0, seq + 1 - self.seqs)
        else:
            skip = sum(found <= seq for found in self.seq_list())
        if skip == 0:
            return self
        if skip >= self.n:
            return None
        wide = 8 * skip
        return replace(
            self,
            n=self.n - skip,
            seqs=self.seqs + skip if isinstance(self.seqs, int) else self.seqs[wide:],
            t_ns=self.t_ns[wide:],
            steps=self.steps[wide:],
            flags=self.flags if isinstance(self.flags, int) else self.flags[skip:],
            columns=tuple(column[wide:] for column in self.columns),
        )

    def to_map(self) -> dict[str, Any]:
        """Return the block as it travels."""
        return {
            "k": self.paths,
            "y": self.kinds,
            "n": self.n,
            "q": self.seqs,
            "t": self.t_ns,
            "s": self.steps,
            "f": self.flags,
            "c": self.columns,
        }

    @classmethod
    def from_map(cls, found: Any) -> Self:
        """Check a decoded map and return its block; ProtocolError if it is not one."""
        if not isinstance(found, dict):
            raise DecodeError("a block is a map", field="b")
        n = found.get("n")
        if type(n) is not int or n < 1:
            raise DecodeError("a block has at least one row", field="n")
        paths, kinds = _known_columns(unpack_paths(found.get("k")), found.get("y"))
        columns, seqs, flags = found.get("c"), found.get("q"), found.get("f")
        if not isinstance(columns, list) or len(columns) != len(paths):
            raise DecodeError("a column for each key", field="c")
        for name, data in (
            ("t", found.get("t")),
            ("s", found.get("s")),
            *(("c", column) for column in columns),
        ):
            _check_bytes(name, data, 8 * n)
        if type(flags) is int:
            if not 0 <= flags <= 255:
                raise DecodeError("flags are a uint8", field="f")
        else:
            _check_bytes("f", flags, n)
        _check_seqs(seqs, n)
        return cls(paths, kinds, n, seqs, found["t"], found["s"], flags, tuple(columns))  # type: ignore[arg-type]


def _known_columns(paths: tuple[KeyPath, ...], kinds: Any) -> tuple[tuple[KeyPath, ...], str]:
    """Check a block's columns; the same ones come in every frame of a writer, and are checked once."""
    if len(paths) > _CACHED_KEYS:
        check_columns(paths, kinds)
        return paths, kinds
    try:
        return _check_once(paths, kinds)
    except TypeError:  # something that can't be hashed, which no key is
        raise DecodeError("a key path is one or more str", field="k") from None


@functools.lru_cache(maxsize=1024)
def _check_once(paths: tuple[KeyPath, ...], kinds: str) -> tuple[tuple[KeyPath, ...], str]:
    check_columns(paths, kinds)
    return paths, kinds


def _check_bytes(name: str, data: object, size: int) -> None:
    if not isinstance(data, bytes) or len(data) != size:
        raise DecodeError(f"{name} is not {size} bytes", field=name)


def _check_seqs(seqs: object, n: int) -> None:
    if type(seqs) is int:
        if not 1 <= seqs <= MAX_SEQ - n:
            raise LimitError("a seq out of range", field="q", limit=MAX_SEQ)
        return
    _check_bytes("q", seqs, 8 * n)
    listed = memoryview(seqs).cast("Q").tolist()  # type: ignore[arg-type]
    if listed[0] < 1 or listed[-1] > MAX_SEQ or not all(map(operator.lt, listed, listed[1:])):
        raise DecodeError("seqs of a block go up from 1", field="q")
