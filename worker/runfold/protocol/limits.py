"""The limits of the wire, each with its unit. Checked before or while decoding, never after."""

from __future__ import annotations

#: One frame, whole. Above: refused unread.
MAX_FRAME_BYTES = 16 * 1024 * 1024 + 64 * 1024
#: Frames are cut near this size; a frame is larger only when one record is.
TARGET_FRAME_BYTES = 1_000_000
#: One record's payload.
MAX_RECORD_BYTES = 16 * 1024 * 1024
#: One key path in its canonical text, UTF-8.
MAX_KEY_BYTES = 4096
#: Different metric keys of one run.
MAX_KEYS_PER_RUN = 100_000
#: Nesting of maps and lists in one value.
MAX_DEPTH = 32
#: Values (containers, keys and leaves) in one record.
MAX_ELEMENTS = 1_000_000
#: Decimal digits of an integer outside 64 bits. Below CPython's own limit of 4300.
MAX_INT_DIGITS = 4096
#: Keys of one row that are packed by a schema; above, the row travels as a map.
MAX_SCHEMA_KEYS = 100_000
#: Parts of all keys of one schema together; keeps a frame of one row within MAX_ELEMENTS.
MAX_SCHEMA_PARTS = 500_000
#: All key parts of one schema, UTF-8; keeps a frame of one row within MAX_FRAME_BYTES.
MAX_SCHEMA_BYTES = 4 * 1024 * 1024
#: A traceback in an exit record, UTF-8.
MAX_TRACEBACK_BYTES = 64_000
#: entity/project/run_id, UTF-8.
MAX_RUN_PATH_BYTES = 1024

#: Length of a writer id.
WRITER_ID_BYTES = 16
#: Sequence numbers are 1 .. MAX_SEQ.
MAX_SEQ = 2**63 - 1
