"""The entry of PYTHONPATH with which a program and all that it starts have runfold as `wandb`."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

#: Holds a `wandb` that leads to runfold, with the metadata of a distribution.
PATH = Path(__file__).parent / "path"


def put_first(environ: MutableMapping[str, str]) -> None:
    """Put it first in PYTHONPATH. What is there stays, an empty entry too: that is the working folder."""
    there = environ.get("PYTHONPATH")
    others = [entry for entry in there.split(os.pathsep) if entry != str(PATH)] if there else []
    environ["PYTHONPATH"] = os.pathsep.join([str(PATH), *others])
