"""The run of a path, deleted or not: for routes to which processes send what belongs to their run.

A process is not told that its run was deleted: what it sends is taken, and hidden with the run.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from runfold_coordinator.api.parameters import At, Name, checked_name, the_run
from runfold_coordinator.store.model import RunRow


def the_sending_run(backend: At, entity: Name, project: Name, run_id: Name) -> RunRow:
    """Return the run of the path, deleted or not.

    Raises:
        NotFoundError: There is none.
    """
    hidden = backend.store.find_run(*(checked_name(part) for part in (entity, project, run_id)), deleted=True)
    return the_run(backend, entity, project, run_id) if hidden is None else hidden


SendingRun = Annotated[RunRow, Depends(the_sending_run)]
