"""The summary of a run with several writers: every key reduced over its lanes, in settled steps, key by key.

In: the store's cells. Out: `LaneSummary`, which goes on where it stopped; a key whose settled steps get a
late row, or whose rule changes, starts again alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import sqlalchemy as sa

from runfold.protocol.history.leaf import SummaryLeaf
from runfold.protocol.history.summary import SummaryTree, timestamp_unix_s
from runfold.protocol.keypath import decode_path, encode_path, parse_name
from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.aggregate.reduce import reduce_columns
from runfold_coordinator.aggregate.rows import conflicts
from runfold_coordinator.aggregate.summary_fold import UNLOGGABLE, observe_column
from runfold_coordinator.readers.lane_columns import read_lane_columns
from runfold_coordinator.readers.lane_rows import read_lane
from runfold_coordinator.readers.run_lanes import RunLanes, Seat, top_step
from runfold_coordinator.readers.set_by_hand import set_by_hand
from runfold_coordinator.readers.step_windows import ChunkSpans, read_spans
from runfold_coordinator.readers.visible_top import visible_top
from runfold_coordinator.readers.writer_summary import TERMINAL_STATES
from runfold_coordinator.store import tables
from runfold_coordinator.store.chunks import keys_of_directory
from runfold_coordinator.store.names import MIXED_KEYSET, unescape_key
from runfold_coordinator.store.store import Store

#: Cells of one key over all lanes that are held at a time.
MAX_WINDOW_CELLS = 1_000_000
#: Steps looked back from a key's newest ones for its last value; grows until one is found.
FIRST_LOOK_BACK = 256
NOT_YET = -(1 << 62)
TIMESTAMP_KEY = "_timestamp"


@dataclass(slots=True)
class KeyFold:
    """One key: its statistics over settled steps, the highest of these, who logs it, its rule.

    `top`: no stored cell lies above this run step.
    """

    leaf: SummaryLeaf = field(default_factory=SummaryLeaf)
    settled: int = NOT_YET
    top: int = NOT_YET
    writers: set[int] = field(default_factory=set)
    rule: list[Any] = field(default_factory=list)


class LaneSummary:
    """The fold of one run. Not thread-safe."""

    def __init__(self, run_pk: int) -> None:
        self.run_pk = run_pk
        self._keys: dict[str, KeyFold] = {}
        #: How each writer was seated; rows of a writer that is seated anew are other rows.
        self._seats: dict[int, list[Any]] = {}
        #: The runs whose rows it begins with.
        self._bases: list[int] = []
        #: Chunks up to this chunk_pk have been looked at; by writer, the highest seq that they hold.
        self._chunk_mark = 0
        self._seen_seq: dict[int, int] = {}

    def catch_up(self, store: Store, lanes: RunLanes) -> Self:
        """Return the fold up to now: this object, or a new one when writers have been seated anew."""
        seats = {seat.writer.writer_pk: _seat_state(seat) for seat in lanes.seats}
        # A base that turned up later has chunks from before the mark.
        is_another = self._seats and self._bases != lanes.run_pks[1:]
        if is_another or any(not _still_holds(before, seats.get(pk)) for pk, before in self._seats.items()):
            return type(self)(self.run_pk).catch_up(store, lanes)
        self._seats, self._bases = seats, lanes.run_pks[1:]
        late = self._look_at_new_chunks(store, lanes)
        spans = None
        feeders = _feeders(lanes)
        for key in sorted(lanes.keys.keys() - UNLOGGABLE):
            fold = self._keys.setdefault(key, KeyFold())
            fed_by = feeders.get(key, [])
            rule = [*_rule_state(lanes, key), *fed_by]
            if key in late or fold.rule != rule:
                fold.leaf, fold.settled, fold.rule = SummaryLeaf(), NOT_YET, rule
            writers = fold.writers.union(*(self._keys[name].writers for name in fed_by if name in self._keys))
            upto = _settled_step(lanes, writers)
            if upto > fold.settled and fold.top <= fold.settled:
                fold.settled = upto  # nothing there to fold
            elif upto > fold.settled:
                spans = spans or read_spans(store, lanes)
                self._fold_key(store, lanes, key, fold, spans, upto)
        return self

    def _fold_key(  # noqa: PLR0917 - one step of catch_up
        self, store: Store, lanes: RunLanes, key: str, fold: KeyFold, spans: ChunkSpans, upto: int
    ) -> None:
        for low, high in spans.windows(
            MAX_WINDOW_CELLS, None if fold.settled == NOT_YET else fold.settled + 1
        ):
            if low > upto:
                break
            observe_column(fold.leaf, read_reduced(store, lanes, key, low, min(high, upto + 1)))
        fold.settled = upto

    def _look_at_new_chunks(self, store: Store, lanes: RunLanes) -> set[str]:
        """Note who logs which key; return the keys that got cells at or below their settled steps."""
        c = tables.chunks.c
        found = store.fetch(
            sa.select(c.chunk_pk, c.writer_pk, c.keyset_pk, c.seq_hi, c.step_min, c.step_max, c.directory)
            .where(c.run_pk.in_(lanes.run_pks), c.chunk_pk > self._chunk_mark)
            .order_by(c.chunk_pk)
        )
        seats = {seat.writer.writer_pk: seat for seat in lanes.seats}
        keys_of = _KeyNames(store)
        settled = max((fold.settled for fold in self._keys.values()), default=NOT_YET)
        suspects: dict[int, int] = {}
        seen_seq = dict(self._seen_seq)
        for row in found:
            self._chunk_mark = max(self._chunk_mark, row.chunk_pk)
            before = self._seen_seq.get(row.writer_pk, 0)
            if row.writer_pk not in seats:
                continue
            seen_seq[row.writer_pk] = max(seen_seq.get(row.writer_pk, 0), row.seq_hi)
            offset = seats[row.writer_pk].placement.step_offset
            cut = seats[row.writer_pk].placement.cut_step
            if cut is not None and row.step_min + offset >= cut:
                continue  # of an old branch, or of a base that went on after its fork
            for key in keys_of.chunk(row.keyset_pk, bytes(row.directory)):
                fold = self._keys.setdefault(key, KeyFold())
                fold.writers.add(row.writer_pk)
                fold.top = max(fold.top, row.step_max + offset)
            # Else merged from chunks that were looked at, or inserted into an open row, which is not settled.
            if row.seq_hi > before and row.step_min + offset <= settled:
                suspects[row.writer_pk] = before
        self._seen_seq = seen_seq
        late: set[str] = set()
        for writer_pk, before in suspects.items():
            late |= self._late_keys(store, seats[writer_pk], before, settled)
        return late

    def _late_keys(self, store: Store, seat: Seat, after_seq: int, settled: int) -> set[str]:
        offset, cut = seat.placement.step_offset, seat.placement.cut_step
        settled = settled if cut is None else min(settled, cut - 1)
        late = set()
        for block in store.read_blocks(
            seat.writer.run_pk, seat.writer.writer_pk, seq_after=after_seq, step_max=settled - offset
        ):
            for key, columns in block.columns.items():
                for column in columns:
                    steps = block.step if column.rows is None else block.step[column.rows]
                    fold = self._keys.get(key)
                    if fold is not None and len(steps) and int(steps.min()) + offset <= fold.settled:
                        late.add(key)
        return late

    def tree(self, store: Store, lanes: RunLanes) -> SummaryTree:
        """Return the summary as it is to be shown: settled steps, the newest values, and what was set by
        hand.
        """
        shown: dict[str, tuple[SummaryLeaf, Column | None]] = {}
        for key, fold in self._keys.items():
            newest = _newest(store, lanes, key, fold)
            if fold.leaf.has_data or newest is not None:
                shown[key] = (fold.leaf, newest)
        tree = SummaryTree()
        for key in _without_conflicts(shown):
            _fill(tree.leaf(decode_path(key)), *shown[key])
        for path, value in set_by_hand(store, lanes):
            tree.set(path, value)
        for key in shown:
            lanes.definitions.see(decode_path(key))
        for path, definition in lanes.definitions.items():
            tree.configure(path, definition)
        _add_own(tree, store, lanes, says_time=TIMESTAMP_KEY in shown)
        return tree

    def to_state(self) -> list[Any]:
        """Return all of it as a msgpack-able value."""
        keys = [
            [key, fold.leaf.to_state(), fold.settled, fold.top, sorted(fold.writers), fold.rule]
            for key, fold in sorted(self._keys.items())
        ]
        seats, seen = sorted(self._seats.items()), sorted(self._seen_seq.items())
        listed = [list(s) for s in seats], [list(s) for s in seen]
        return [self.run_pk, keys, listed[0], self._chunk_mark, listed[1], self._bases]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """Rebuild what to_state() returned."""
        run_pk, keys, seats, chunk_mark, seen, bases = state
        restored = cls(run_pk)
        restored._keys = {
            key: KeyFold(SummaryLeaf.from_state(leaf), settled, top, set(writers), rule)
            for key, leaf, settled, top, writers, rule in keys
        }
        restored._seats, restored._chunk_mark, restored._seen_seq = dict(seats), chunk_mark, dict(seen)
        restored._bases = list(bases)
        return restored


def read_reduced(store: Store, lanes: RunLanes, key: str, low: int | None, high: int | None) -> Column:
    """Return one key's reduced values with low <= run step < high."""
    columns = read_lane_columns(store, lanes, key, low=low, high=high)
    weight = lanes.weight_key(key)
    weights = None if weight is None else read_lane_columns(store, lanes, weight, low=low, high=high)
    return reduce_columns(columns, lanes.reduction(key, weights))


def _feeders(lanes: RunLanes) -> dict[str, list[str]]:
    """Return by step metric the keys with which it is inserted into rows that lack it: a row that is still
    open gets it when it closes, so that who logs such a key is a writer of the step metric too.
    """
    found: dict[str, list[str]] = {}
    for key in sorted(lanes.keys):
        path = decode_path(key)
        lanes.definitions.see(path)
        for name in lanes.definitions.step_chain(path):
            found.setdefault(encode_path(parse_name(name)), []).append(key)
    return found


def _settled_step(lanes: RunLanes, writers: Collection[int]) -> int:
    """Return the highest step that no live one of a key's writers can add to by going on."""
    tops = [
        seat.top_step - 1
        for seat in lanes.seats
        if seat.writer.writer_pk in writers
        and seat.top_step is not None
        and seat.writer.state not in TERMINAL_STATES
        and seat.placement.cut_step is None
    ]
    return min(tops, default=top_step(lanes.seats))


def _newest(store: Store, lanes: RunLanes, key: str, fold: KeyFold) -> Column | None:
    """Return the key's newest unsettled point; None when its newest point is settled."""
    top = top_step(seat for seat in lanes.seats if seat.writer.writer_pk in fold.writers)
    look_back = FIRST_LOOK_BACK
    high = min(top, fold.top) + 1
    while high > fold.settled + 1:
        low = max(fold.settled + 1, high - look_back)
        column = read_reduced(store, lanes, key, low, high)
        if len(column):
            return column.take(slice(len(column) - 1, len(column)))
        high, look_back = low, look_back * 16
    return None


def _fill(leaf: SummaryLeaf, settled: SummaryLeaf, newest: Column | None) -> None:
    """Copy a fold's statistics; the newest value counts for `last`, and where nothing is settled for
    `first`.
    """
    for name in SummaryLeaf.__slots__:
        setattr(leaf, name, getattr(settled, name))
    if newest is not None:
        value, step = newest.objects()[0], int(newest.step[0])
        leaf.latest, leaf.last_step = value, step
        if not leaf.has_data:
            leaf.first, leaf.first_step, leaf.has_data = value, step, True


def _without_conflicts(shown: Mapping[str, tuple[SummaryLeaf, Column | None]]) -> list[str]:
    """Return the keys; where one is a value here and a subtree there, the one with the higher step."""
    last_step = {
        key: leaf.last_step if newest is None else int(newest.step[0])
        for key, (leaf, newest) in shown.items()
    }
    dropped = set()
    for above, below in conflicts(shown.keys()):
        dropped.add(below if last_step[above] > last_step[below] else above)
    return sorted(shown.keys() - dropped)


def _add_own(tree: SummaryTree, store: Store, lanes: RunLanes, *, says_time: bool) -> None:
    """Add what every row has by itself: of the newest row, and the whole duration when the run is over."""
    top = visible_top(store, lanes.seats)
    times: list[int] = []
    for lane in lanes.lanes:
        if any(seat.top_step is not None and seat.top_step >= top for seat in lane.seats):
            times += read_lane(store, lane, low=top, high=top + 1).t_ns.tolist()
    if not times:
        return
    newest = max(times)
    timestamp = None if says_time else timestamp_unix_s(newest)
    tree.observe_row(top, [], timestamp=timestamp, runtime=lanes.clock.runtime_s(newest))
    own = [seat.writer for seat in lanes.own_seats]
    if all(writer.state in TERMINAL_STATES for writer in own):
        tree.finish(lanes.clock.runtime_s(max(writer.last_record_unix_ns for writer in own)))


def _seat_state(seat: Seat) -> list[Any]:
    """Return a writer's place, and at which seq it died where it did not say goodbye."""
    placement, writer = seat.placement, seat.writer
    has_died = writer.exit is None and writer.state in TERMINAL_STATES
    return [
        placement.attempt,
        placement.step_offset,
        placement.cut_step,
        writer.last_seq if has_died else None,
    ]


def _still_holds(before: list[Any], now: list[Any] | None) -> bool:
    """Return False for a writer that has been seated anew, or speaks after its death had closed its row."""
    return now is not None and now[:3] == before[:3] and before[3] in (None, now[3])


def _rule_state(lanes: RunLanes, key: str) -> list[Any]:
    """Return all that a key's reduced values depend on beside its cells."""
    primary = None if lanes.primary is None else lanes.lanes[lanes.primary].seats[0].writer.writer_pk
    return [lanes.reduction(key).rule, lanes.weight_key(key), primary]


class _KeyNames:
    """Keys of chunks by name; each key set is looked up once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of_keyset: dict[int, list[str]] = {}
        self._of_pk: dict[int, str] = {}

    def chunk(self, keyset_pk: int, directory: bytes) -> list[str]:
        """Return the keys of a chunk."""
        if keyset_pk == MIXED_KEYSET:
            return [self._name(key_pk) for key_pk in keys_of_directory(directory)]
        found = self._of_keyset.get(keyset_pk)
        if found is None:
            c, keys = tables.keyset_keys.c, tables.keys.c
            rows = self._store.fetch(
                sa.select(keys.key)
                .join(tables.keyset_keys, c.key_pk == keys.key_pk)
                .where(c.keyset_pk == keyset_pk)
            )
            found = self._of_keyset[keyset_pk] = [unescape_key(row.key) for row in rows]
        return found

    def _name(self, key_pk: int) -> str:
        name = self._of_pk.get(key_pk)
        if name is None:
            keys = tables.keys.c
            (row,) = self._store.fetch(sa.select(keys.key).where(keys.key_pk == key_pk))
            name = self._of_pk[key_pk] = unescape_key(row.key)
        return name
