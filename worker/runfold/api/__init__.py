"""The public API: read stored runs back from a runfold server, from any machine.

api = runfold.Api()
run = api.run("project/run_id")
run.history(keys=["loss"])
"""

from runfold.api.client import Api
from runfold.api.errors import (
    GroupNotFoundError,
    NotFoundError,
    RequestError,
    RunEndedError,
    RunNotFoundError,
)
from runfold.api.group import Group
from runfold.api.project import Project
from runfold.api.run import Run
from runfold.api.runs import Runs
from runfold.api.sweep import Sweep

__all__ = [
    "Api",
    "Group",
    "GroupNotFoundError",
    "NotFoundError",
    "Project",
    "RequestError",
    "Run",
    "RunEndedError",
    "RunNotFoundError",
    "Runs",
    "Sweep",
]
