"""Who am I: rank, world, job and attempt of this process, found without configuration.

In: the environment, modules that the script has loaded, the process table. Out: a Launch, and the job's
identity. Ray and torch are asked only if the script imported them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runfold.ancestors import is_rank_inherited, launcher_pid
from runfold.node.processes import boot_id, start_of


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launcher says of this process. None means that it does not say."""

    #: Which launcher's word this is; None: none found.
    source: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    node_rank: int | None = None
    #: Ranks on this node.
    local_world_size: int | None = None
    #: The job's id where it is real: equal in all ranks and in every restart, different in every other job.
    job_id: str | None = None
    restart_hint: int | None = None
    launcher_pid: int | None = None
    #: As `start_of` says it.
    launcher_start: float | None = None
    #: Where torchelastic reads what `@record` writes of an exception.
    error_file: str | None = None
    #: Slurm's job id as scontrol takes it.
    scheduler_job: str | None = None
    #: CUDA_VISIBLE_DEVICES as it stands.
    visible_devices: str | None = None

    @property
    def is_on_one_node(self) -> bool | None:
        """Whether all ranks run on this node; None: not known."""
        if self.world_size is None or self.local_world_size is None:
            return None
        return self.local_world_size >= self.world_size


def detect(environ: Mapping[str, str], *, modules: Mapping[str, Any] | None = None) -> Launch:
    """Return what is known of this process; the first launcher that answers names the rank."""
    modules = sys.modules if modules is None else modules
    found = next((launch for find in _FINDERS if (launch := find(environ, modules)) is not None), Launch())
    if found.job_id is None:
        found = replace(found, job_id=_job_of_the_scheduler(environ, found.source))
    if found.rank is not None and is_rank_inherited(environ):
        found = replace(found, rank=None, local_rank=None)
    pid = launcher_pid()
    return replace(
        found,
        launcher_pid=pid,
        launcher_start=start_of(pid) if pid else None,
        # Of a rank that is only inherited, it is another process's file.
        error_file=_error_file(environ) if found.rank is not None else None,
        scheduler_job=environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID") or None,
        visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
    )


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """What the ranks of one job share."""

    parts: tuple[object, ...]
    #: True when only the ranks of this node can find it.
    is_of_one_node: bool = False


def identify_job(launch: Launch, agree: Callable[[Launch], str | None] | None = None) -> JobIdentity:
    """Return the identity that every rank of the job finds by itself.

    Args:
        agree: Asks a store that the ranks share for a token; None when there is none.
    """
    if launch.job_id is not None:
        return JobIdentity(("job", launch.job_id))
    here = ("launcher", boot_id(), launch.launcher_pid, launch.launcher_start)
    if launch.is_on_one_node is True:
        return JobIdentity(here)
    token = (agree or agree_by_c10d)(launch)
    if token is not None:
        return JobIdentity(("c10d", token))
    return JobIdentity(here, is_of_one_node=launch.is_on_one_node is not None or launch.node_rank is not None)


def agree_by_c10d(launch: Launch, *, timeout_s: float = 5.0) -> str | None:
    """Return a token that all ranks share, through the store of torch.distributed; None without one."""
    distributed = sys.modules.get("torch.distributed")
    try:
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return None
        from datetime import timedelta

        store = distributed.distributed_c10d._get_default_store()  # noqa: SLF001  # torch has no public way to it
        key = "runfold/job"
        if (distributed.get_rank() if launch.rank is None else launch.rank) == 0:
            store.set(key, os.urandom(16).hex() if not store.check([key]) else store.get(key))
        store.wait([key], timedelta(seconds=timeout_s))
        return bytes(store.get(key)).decode()
    except Exception:  # noqa: BLE001  # whatever a store of any torch version raises: the run is then one per node
        return None


def _torchrun(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    if "TORCHELASTIC_RUN_ID" not in environ or "RANK" not in environ:
        return None
    run_id = environ["TORCHELASTIC_RUN_ID"]
    return Launch(
        source="torchrun",
        rank=_number(environ, "RANK"),
        local_rank=_number(environ, "LOCAL_RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        node_rank=_number(environ, "GROUP_RANK"),
        local_world_size=_number(environ, "LOCAL_WORLD_SIZE"),
        job_id=f"torchelastic:{run_id}" if run_id and run_id.lower() != "none" else None,
        restart_hint=_number(environ, "TORCHELASTIC_RESTART_COUNT"),
    )


def _ray(environ: Mapping[str, str], modules: Mapping[str, Any]) -> Launch | None:
    ray = modules.get("ray")
    try:
        if ray is None or not ray.is_initialized():
            return None
        context = ray.get_runtime_context()
        job_id = _said(context, "get_job_id") or environ.get("RAY_JOB_ID")
        job = f"ray:{_said(context, 'get_session_name')}:{job_id}"
        launch = Launch(source="ray", job_id=job)
        train = modules.get("ray.train")
        worker = train.get_context() if train is not None else None
        world_size, rank = _said(worker, "get_world_size"), _said(worker, "get_world_rank")
        if not isinstance(rank, int) or not isinstance(world_size, int):
            return launch
        experiment, trial = _said(worker, "get_experiment_name"), _said(worker, "get_trial_id")
        return Launch(
            source="ray",
            rank=rank,
            local_rank=_said(worker, "get_local_rank"),
            world_size=world_size,
            node_rank=_said(worker, "get_node_rank"),
            local_world_size=_said(worker, "get_local_world_size"),
            job_id=f"{job}:{experiment}:{trial}",
        )
    except Exception:  # noqa: BLE001  # Ray outside of a session raises what it likes
        return None


def _said(source: Any, method: str) -> Any:
    try:
        return getattr(source, method)()
    except Exception:  # noqa: BLE001  # not in this version, or not in this place
        return None


def _rank_variables(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    """RANK and WORLD_SIZE: DeepSpeed, Accelerate, Kubeflow, or the script itself in its children."""
    if _number(environ, "RANK") is None:
        return None
    is_local = environ.get("MASTER_ADDR") in ("localhost", "127.0.0.1", "::1")
    return Launch(
        source="env",
        rank=_number(environ, "RANK"),
        local_rank=_number(environ, "LOCAL_RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        node_rank=_number(environ, "GROUP_RANK", "NODE_RANK"),
        local_world_size=_number(environ, "LOCAL_WORLD_SIZE", *(("WORLD_SIZE",) if is_local else ())),
    )


def _slurm(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    # The batch script and an interactive shell have SLURM_PROCID 0 too, but are no tasks of a step.
    if "SLURM_PROCID" not in environ or not ("SLURM_STEP_ID" in environ or "SLURM_STEPID" in environ):
        return None
    if environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    world_size = _number(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    is_one_node = _number(environ, "SLURM_STEP_NUM_NODES", "SLURM_NNODES") == 1
    return Launch(
        source="slurm",
        rank=_number(environ, "SLURM_PROCID"),
        local_rank=_number(environ, "SLURM_LOCALID"),
        world_size=world_size,
        node_rank=_number(environ, "SLURM_NODEID"),
        local_world_size=world_size if is_one_node else int(tasks) if tasks.isdigit() else None,
        restart_hint=_number(environ, "SLURM_RESTART_COUNT"),
    )


def _open_mpi(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    if "OMPI_COMM_WORLD_RANK" not in environ:
        return None
    space = environ.get("PMIX_NAMESPACE") or environ.get("OMPI_MCA_ess_base_jobid")
    host = environ.get("OMPI_MCA_orte_hnp_uri") or environ.get("PMIX_SERVER_URI41") or ""
    return Launch(
        source="openmpi",
        rank=_number(environ, "OMPI_COMM_WORLD_RANK"),
        local_rank=_number(environ, "OMPI_COMM_WORLD_LOCAL_RANK"),
        world_size=_number(environ, "OMPI_COMM_WORLD_SIZE"),
        node_rank=_number(environ, "OMPI_COMM_WORLD_NODE_RANK"),
        local_world_size=_number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE"),
        job_id=f"openmpi:{space}:{host if 'hnp' in host else ''}" if space else None,
    )


def _pmi(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    rank = _number(environ, "PMI_RANK", "MV2_COMM_WORLD_RANK")
    if rank is None:
        return None
    return Launch(
        source="pmi",
        rank=rank,
        local_rank=_number(environ, "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
        world_size=_number(environ, "PMI_SIZE", "MV2_COMM_WORLD_SIZE"),
        local_world_size=_number(environ, "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    )


def _horovod(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    if "HOROVOD_RANK" not in environ:
        return None
    address = environ.get("HOROVOD_GLOO_RENDEZVOUS_ADDR")
    port = environ.get("HOROVOD_GLOO_RENDEZVOUS_PORT")
    return Launch(
        source="horovod",
        rank=_number(environ, "HOROVOD_RANK"),
        local_rank=_number(environ, "HOROVOD_LOCAL_RANK"),
        world_size=_number(environ, "HOROVOD_SIZE"),
        node_rank=_number(environ, "HOROVOD_CROSS_RANK"),
        local_world_size=_number(environ, "HOROVOD_LOCAL_SIZE"),
        job_id=f"horovod:{address}:{port}" if address and port else None,
    )


def _kubernetes(environ: Mapping[str, str], _: Mapping[str, Any]) -> Launch | None:
    index = _number(environ, "JOB_COMPLETION_INDEX")
    if index is None:
        return None
    host = environ.get("HOSTNAME", "")
    # The pod of an indexed Job is called <job>-<index>, with a random end in its name but not in its host
    # name.
    job, mark, _end = host.partition(f"-{index}")
    return Launch(
        source="kubernetes",
        rank=index,
        world_size=_number(environ, "WORLD_SIZE", "JOB_COMPLETIONS"),
        node_rank=index,
        job_id=f"kubernetes:{environ.get('POD_NAMESPACE', '')}:{job}" if mark and job else None,
    )


_FINDERS = (_torchrun, _ray, _rank_variables, _slurm, _open_mpi, _pmi, _horovod, _kubernetes)


def _job_of_the_scheduler(environ: Mapping[str, str], source: str | None) -> str | None:
    """Return the Slurm job that the launcher itself runs in. Steps are told apart."""
    job = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    if not job or source is None:
        return None
    step = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID") or ""
    return f"slurm:{environ.get('SLURM_CLUSTER_NAME', '')}:{job}:{step}"


def _error_file(environ: Mapping[str, str]) -> str | None:
    path = environ.get("TORCHELASTIC_ERROR_FILE")
    return path if path and path != os.devnull else None


def _number(environ: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        try:
            return int(environ[name])
        except (KeyError, ValueError):
            continue
    return None
