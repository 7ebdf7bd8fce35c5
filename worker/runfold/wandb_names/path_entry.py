"""The entry of PYTHONPATH with which a program and all that it starts have runfold as `wandb`."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

#: Holds a `wandb` that leads to runfold, with the metadata of a distribution.
PATH = Path(__file__).parent / "path"


def put_first(environ: MutableMapping[str, str]) -> None:
    """Put it first in PYTHONPATH; what is there stays behind it."""
    others = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environ["PYTHONPATH"] = os.pathsep.join([str(PATH), *(entry for entry in others if entry != str(PATH))])
