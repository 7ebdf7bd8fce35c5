"""Settings, the disk reserve, the second way in, and the thread for what can wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runfold_coordinator.ballast import Ballast
from runfold_coordinator.ingest.intake import Intake
from runfold_coordinator.maintenance import Maintenance
from runfold_coordinator.settings import CoordinatorSettings
from runfold_coordinator.stream_reader import StreamUnavailableError
from support.frames import Bench, Speaker


def test_an_argument_comes_before_the_environment_and_that_before_the_default(tmp_path: Path) -> None:
    environ = {"RUNFOLD_PORT": "1234", "RUNFOLD_HOST": "127.0.0.2", "RUNFOLD_DIR": str(tmp_path)}
    settings = CoordinatorSettings.from_env(environ, port=0, host=None)
    assert (settings.port, settings.host, settings.partitions) == (0, "127.0.0.2", 1)
    assert settings.data_dir == tmp_path / "server"
    assert settings.database_url == f"sqlite:///{tmp_path}/server/runfold.db"


def test_secrets_do_not_show() -> None:
    settings = CoordinatorSettings.from_env(
        {"RUNFOLD_API_KEY": "hunter2", "RUNFOLD_DB": "postgresql://u:hunter2@h/d"},
        redis_url="redis://:hunter2@h",
    )
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"RUNFOLD_PORT": "many"}, "RUNFOLD_PORT"),
        ({"RUNFOLD_PORT": "70000"}, "port"),
        ({"RUNFOLD_PARTITIONS": "0"}, "partitions"),
        ({"RUNFOLD_LOST_S": "-1"}, "lost_s"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CoordinatorSettings.from_env(environ)


def test_the_reserve_is_given_up_and_taken_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 1024 * 1024)
    assert ballast.take()
    assert ballast.take()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1024 * 1024
    ballast.free()
    ballast.free()
    assert not (tmp_path / "ballast").exists()
    assert not Ballast(tmp_path / "huge", 2**60).take()
    assert not Ballast(tmp_path / "none", 0).take()


class FakeStream:
    def __init__(self, room: int) -> None:
        self.frames: list[bytes] = []
        self.messages: list[bytes] = []
        self.room = room

    def append_frame(self, frame: bytes, crc: bytes) -> None:
        if len(self.frames) == self.room:
            raise StreamUnavailableError("full")
        self.frames.append(frame)

    def append_control(self, message: bytes) -> None:
        self.messages.append(message)

    def close(self) -> None:
        pass


class FakeLoop:
    cursor, beat = "5-0", 3


def test_the_second_way_in_stops_at_the_first_refusal_and_answers_from_the_database(bench: Bench) -> None:
    streams = [FakeStream(2), FakeStream(9)]
    loops: Any = [FakeLoop(), FakeLoop()]
    intake = Intake(bench.store, loops, lambda p: streams[p], redis_url=None)  # type: ignore[arg-type,return-value]
    frames = [
        (0, b"a", b"crc1"),
        (1, b"b", b"crc1"),
        (0, b"c", b"crc1"),
        (0, b"d", b"crc1"),
        (1, b"e", b"crc1"),
    ]
    assert intake.add_frames(frames) == 3
    assert intake.add_frames([(7, b"a", b"crc1")]) == 0
    intake.add_control(b"beat")
    assert [stream.messages for stream in streams] == [[b"beat"], [b"beat"]]
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    said = intake.acks([speaker.writer_id])
    assert said == {
        "srv": bench.store.server_id,
        "cur": "5-0",
        "beat": 3,
        "parts": 2,
        "acks": {speaker.writer_id: 1},
    }
    assert intake.connect_facts() == {"redis_url": None, "server_id": bench.store.server_id, "partitions": 2}
    intake.close()


def test_maintenance_merges_and_cools_in_turns(bench: Bench, tmp_path: Path) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    for i in range(20):
        bench.feed(speaker.rows({"loss": [float(i)]}))
    maintenance = Maintenance(bench.store, bench.clock, Ballast(tmp_path / "ballast", 0), cold_after_s=100.0)
    assert maintenance.turn()
    assert not maintenance.turn()
    (run,) = bench.store.list_runs()
    assert len(list(bench.store.read_cells(run.run_pk, "loss"))) == 1
    bench.clock.now_s += 1000
    while maintenance.turn():
        pass
    assert len(list((tmp_path / "cold").rglob("*.parquet"))) == 1
    (cells,) = bench.store.read_cells(run.run_pk, "loss")
    assert list(cells.values) == [float(i) for i in range(20)]
