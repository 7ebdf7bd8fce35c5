"""Where the blobs of a database lie, and the thread that looks after them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runfold_coordinator.blobs.errors import BlobMissingError
from runfold_coordinator.blobs.places import LocalPlace, new_object_name
from runfold_coordinator.blobs.remote_place import RemotePlace
from runfold_coordinator.blobs.scrubber import EVERY_S
from runfold_coordinator.blobs.service import BlobService, open_place
from runfold_coordinator.blobs.upkeep import ORPHANS_EVERY_S
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.store.errors import StoreFullError, StoreRefusedError
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store
from support.processes import until
from support.stores import new_database


class MovedClock(SystemClock):
    """The machine's clock, some time from now."""

    later_s = 0.0

    def mono_s(self) -> float:
        return super().mono_s() + self.later_s

    def unix_s(self) -> float:
        return super().unix_s() + self.later_s


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(new_database(tmp_path / "runfold.db"))
    yield opened
    opened.close()


def service(store: Store, tmp_path: Path, clock: Any, **given: Any) -> BlobService:
    return BlobService(store, clock, None, tmp_path, **{"min_age_s": 86400.0, **given})


def test_each_database_has_a_folder_of_its_own_wherever_it_is(store: Store, tmp_path: Path) -> None:
    for url in (None, str(tmp_path / "elsewhere"), f"file://{tmp_path}/third"):
        place = open_place(url, tmp_path / "data", store)
        assert isinstance(place, LocalPlace)
    for folder in ("data/blobs", "elsewhere", "third"):
        assert (tmp_path / folder / store.server_id / "incoming").is_dir()
    remote = open_place("memory://bucket/x/", tmp_path / "data", store)
    assert isinstance(remote, RemotePlace)
    assert remote._root.endswith(f"bucket/x/{store.server_id}")
    assert remote.incoming == tmp_path / "data" / "blob-spool"


def test_blobs_that_are_not_where_they_should_be_stop_the_start(store: Store, tmp_path: Path) -> None:
    service(store, tmp_path, SystemClock()).blobs.put(b"content")
    with pytest.raises(StoreRefusedError, match="--blobs"):
        open_place(str(tmp_path / "elsewhere"), tmp_path, store)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "blobs" / store.server_id).rename(tmp_path / "elsewhere" / store.server_id)
    open_place(str(tmp_path / "elsewhere"), tmp_path, store)


def test_upkeep_does_what_is_due(store: Store, tmp_path: Path) -> None:
    clock = MovedClock()
    found = service(store, tmp_path, clock)
    kept, gone = found.blobs.put(b"kept"), found.blobs.put(b"gone")
    found.collector.add_roots(lambda: iter([kept]))
    left = new_object_name(hashlib.sha256(b"left").hexdigest())
    found.blobs.place.take_many([(left, b"left")])
    (found.blobs.place.incoming / f"{gone}.part").write_bytes(b"half")
    found._upkeep.turn()
    assert len(list(tmp_path.rglob("*-*"))) >= 3
    clock.later_s = EVERY_S + 3600
    found._upkeep.turn()
    assert found.blobs.missing([kept, gone]) == [gone]
    assert list(found.blobs.place.incoming.iterdir()) == []
    (row,) = store.fetch(sa.select(b.c.checked_unix_s))
    assert row.checked_unix_s > SystemClock().unix_s() + EVERY_S
    for _ in range(256):
        clock.later_s += ORPHANS_EVERY_S / 256
        found._upkeep.turn()
    root = tmp_path / "blobs" / store.server_id
    assert [path.name[:64] for path in root.rglob("*-*")] == [kept]
    found.stop()


def test_damage_is_found_while_a_manifest_can_t_be_read(store: Store, tmp_path: Path) -> None:
    clock = MovedClock()
    found = service(store, tmp_path, clock)
    digest = found.blobs.put(b"content")
    (lying,) = (tmp_path / "blobs").rglob(f"{digest}-*")
    lying.write_bytes(b"CONTENT")

    def fail() -> Iterator[str]:
        raise BlobMissingError(digest, is_damaged=True)
        yield ""

    found.collector.add_roots(fail)
    clock.later_s = EVERY_S + 3600
    with pytest.raises(BlobMissingError):
        found._upkeep.turn()
    assert found.blobs.missing([digest]) == [digest]
    found.stop()


def test_upkeep_gives_the_reserve_up_when_removing_takes_space_that_is_not_there(
    store: Store, tmp_path: Path
) -> None:
    freed: list[bool] = []
    found = service(store, tmp_path, SystemClock(), min_age_s=0.0, free_ballast=lambda: freed.append(True))
    gone = found.blobs.put(b"gone")

    def full() -> Iterator[str]:
        if not freed:
            raise StoreFullError("database or disk is full")
        yield from ()

    found.collector.add_roots(full)
    found.start()
    until(lambda: found.blobs.size(gone) is None)
    found.stop()
    assert freed
