"""Cold files: what has to be on disk before a row refers to one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from runfold_coordinator.store.cold import ColdFiles
from runfold_coordinator.store.merging import MergedRows


def test_a_file_and_the_folders_that_lead_to_it_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def note(fd: int, fsync: object = os.fsync) -> None:
        assert callable(fsync)
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    seq = np.arange(1, 4, dtype=np.uint64)
    rows = MergedRows(seq, seq.astype(np.int64), seq, np.zeros(3, np.uint8), [])
    cold = tmp_path / "cold"
    name, size = ColdFiles(str(cold)).write(7, {}, [rows])
    assert (cold / name).stat().st_size == size
    assert synced == [cold / name, cold / "7", cold, tmp_path]
