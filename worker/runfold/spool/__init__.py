"""The crash-proof files between a training process and the node agent.

One directory per writer: `writer.py` appends rows and records, `reader.py` gives them to the agent in
batches, `format.py` is the layout that both keep.
"""

from __future__ import annotations

from runfold.spool.errors import SpoolDamagedError, SpoolUnavailableError
from runfold.spool.limits import SpoolLimits
from runfold.spool.reader import Batch, SpoolReader, list_writers
from runfold.spool.writer import SpoolWriter

__all__ = [
    "Batch",
    "SpoolDamagedError",
    "SpoolLimits",
    "SpoolReader",
    "SpoolUnavailableError",
    "SpoolWriter",
    "list_writers",
]
