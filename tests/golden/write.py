"""Write golden bytes of the current version into a new folder. Refuses to touch what exists."""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from golden import samples  # noqa: E402
from runfold.protocol.frames import encode_frame  # noqa: E402
from runfold.protocol.records import RecordKind  # noqa: E402
from runfold.spool import SpoolLimits, SpoolWriter  # noqa: E402


def main(version: str) -> None:
    folder = HERE / version
    folder.mkdir()
    for kind, payload in samples.PAYLOADS.items():
        (folder / f"{kind.name.lower()}.msgpack").write_bytes(payload.pack())
    (folder / "schema.msgpack").write_bytes(samples.SCHEMA.pack_definition(samples.SCHEMA_ID))
    (folder / "heartbeat.msgpack").write_bytes(samples.HEARTBEAT.pack())
    (folder / "frame.msgpack").write_bytes(encode_frame(samples.FRAME))
    with tempfile.TemporaryDirectory() as temporary:
        writer = SpoolWriter.create(
            Path(temporary),
            "local",
            samples.IDENTITY.to_map(),
            writer_id=samples.WRITER,
            limits=SpoolLimits(
                mode="pwrite", first_segment_bytes=4096, max_segment_bytes=4096, min_free_bytes=0
            ),
            clock_ns=itertools.count(1_000).__next__,
        )
        for row in samples.SPOOL_ROWS:
            writer.append_row(*row)
        for kind, payload in samples.PAYLOADS.items():
            if kind != RecordKind.WRITER:
                writer.append_record(kind, payload.pack())
        writer.close()
        shutil.copytree(writer.directory, folder / "spool" / writer.directory.name)


if __name__ == "__main__":
    main(sys.argv[1])
