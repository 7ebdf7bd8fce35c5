"""A process that is killed while it saves: what it announced has a job, so that it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runfold.protocol.file_records import ArtifactRecord, FileRecord
from runfold.protocol.records import RecordKind
from runfold.spool import SpoolReader, list_writers
from runfold.uploads.outbox import Outbox

_SAVES = "import runfold; run = runfold.init(project='p'); run.save('f', policy='now')"
_LOGS = "import runfold; run = runfold.init(project='p'); run.log_artifact('f', name='a', type='t')"


def announced(spools: Path) -> int:
    found = 0
    for directory in list_writers(spools):
        reader, seq = SpoolReader(directory), 1
        while (batch := reader.read(seq, max_bytes=1 << 20)) is not None:
            for each in batch.others:
                if each.kind in (RecordKind.FILE, RecordKind.ARTIFACT):
                    (FileRecord if each.kind == RecordKind.FILE else ArtifactRecord).unpack(each.payload)
                    found += 1
            seq = batch.hi + 1
        reader.close()
    return found


@pytest.mark.parametrize(
    ("script", "failpoint", "is_announced"),
    [
        (_SAVES, "files.after_job", False),
        (_LOGS, "artifacts.after_staging", False),
        (_LOGS, "artifacts.after_job", False),
        (_LOGS, "artifacts.after_record", True),
    ],
)
def test_what_a_killed_process_announced_waits_in_the_outbox(
    tmp_path: Path, script: str, failpoint: str, is_announced: bool
) -> None:
    (tmp_path / "f").write_text("content")
    env = {**os.environ, "RUNFOLD_FAILPOINT": failpoint, "RUNFOLD_CONSOLE": "off"}
    ended = subprocess.run([sys.executable, "-c", script], env=env, cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    spools = tmp_path / "home/spool/offline"
    assert announced(spools) == is_announced
    assert len(Outbox(spools).waiting()) == (0 if failpoint.endswith("staging") else 1)
