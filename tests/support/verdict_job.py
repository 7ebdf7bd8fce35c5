"""A shared run whose ranks say rows when told, and its verdicts, on a clock that moves when told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from runfold.protocol.frames import Frame
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.store.store import Store
from runfold_coordinator.verdicts.board import VerdictBoard
from runfold_coordinator.verdicts.progress import StallLimits
from support.frames import Bench, Speaker, only_run


class Rank(Speaker):
    """One rank: says rows at the time of the bench's clock."""

    beat: dict[str, Any]

    def timed(self, unix_s: float, columns: dict[str, Sequence[float]]) -> Frame:
        frame = self.rows(columns)
        (block,) = frame.blocks
        t_ns = np.full(block.n, unix_s * 1e9).astype("<u8").tobytes()
        return replace(frame, blocks=(replace(block, t_ns=t_ns),))


class Job:
    """Ranks of one shared run, their ingest, their verdicts."""

    def __init__(self, store: Store, ranks: int) -> None:
        self.bench = Bench(store)
        self.store = store
        self.asked: list[tuple[list[str], str]] = []
        self.board = self.make_board()
        self.ranks = [Rank((rank + 1).to_bytes(16, "big")) for rank in range(ranks)]
        self.beats: list[dict[str, Any]] = [{"alive": True} for _ in self.ranks]
        self.bench.feed(*(self.hello(rank) for rank in range(ranks)))

    def make_board(self) -> VerdictBoard:
        board = VerdictBoard(
            self.store,
            self.bench.liveness,
            self.bench.clock,
            StallLimits(),
            ask_stacks=lambda writers, why: self.asked.append(([w.hex() for w in writers], why)),
        )
        self.bench.ingest.on_stored = board.note
        return board

    def hello(self, rank: int, **facts: Any) -> Frame:
        speaker = self.ranks[rank]
        return speaker.hello(mode="shared", rank=rank, label=f"rank{rank}", host="n1", **facts)

    @property
    def unix_s(self) -> float:
        return self.bench.clock.unix_s()

    def step(self, *ranks: int, **columns: float) -> None:
        """These ranks (all by default) log one row."""
        said = {name.replace("__", "/"): [value] for name, value in columns.items()} or {"loss": [1.0]}
        self.bench.feed(
            *(self.ranks[rank].timed(self.unix_s, said) for rank in ranks or range(len(self.ranks)))
        )

    def steps(self, count: int, *ranks: int, every_s: float = 1.0, **columns: float) -> None:
        for _ in range(count):
            self.pass_(every_s)
            self.step(*ranks, **columns)

    def pass_(self, seconds: float) -> None:
        """Time passes; agents are heard every 5 s; verdicts are judged."""
        while seconds > 0:
            part = min(seconds, 10.0 if seconds > 200 else 5.0)
            seconds -= part
            self.bench.clock.now_s += part
            self.hear()
            self.bench.board.tick()
            self.board.judge()

    def hear(self) -> None:
        beats = tuple(
            WriterBeat(
                rank.writer,
                beat.get("head_seq", rank.seq),
                **{k: v for k, v in beat.items() if k != "head_seq"},
            )
            for rank, beat in zip(self.ranks, self.beats, strict=True)
            if beat
        )
        self.bench.liveness.hear(Heartbeat("n1", "n1", "b", self.unix_s, 5.0, beats))

    @property
    def verdicts(self) -> dict[str, Any]:
        return only_run(self.store).verdicts

    def stalled(self) -> list[int | None]:
        run = only_run(self.store)
        flagged = [writer.rank for writer in self.store.writers(run.run_pk) if writer.stalled]
        assert run.stalled is bool(flagged)
        return flagged

    def waiting_for(self) -> list[tuple[int, str]]:
        return [(found["rank"], found["kind"]) for found in self.verdicts["stall"]["waiting_for"]]
