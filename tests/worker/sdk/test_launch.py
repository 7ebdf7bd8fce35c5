"""Who this process is, by the environment of each launcher."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import pytest

from runfold.launch import Launch, detect, identify_job

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "TORCHELASTIC_RUN_ID": "job-17",
    "TORCHELASTIC_RESTART_COUNT": "2",
}
SLURM = {
    "SLURM_JOB_ID": "99",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_RESTART_COUNT": "1",
}


def found(environ: Mapping[str, str], modules: Mapping[str, Any] | None = None) -> Launch:
    return detect(environ, modules=modules or {})


def test_no_launcher() -> None:
    launch = found({})
    assert (launch.source, launch.rank, launch.world_size, launch.job_id) == (None, None, None, None)


def test_torchrun() -> None:
    launch = found(TORCHRUN)
    assert (launch.source, launch.rank, launch.local_rank, launch.world_size) == ("torchrun", 5, 1, 8)
    assert (launch.node_rank, launch.restart_hint, launch.job_id) == (1, 2, "torchelastic:job-17")
    assert launch.is_on_one_node is False


def test_torchruns_default_run_id_is_no_identity() -> None:
    assert found({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}).job_id is None
    in_slurm = found({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "99"})
    assert (in_slurm.source, in_slurm.rank, in_slurm.job_id) == ("torchrun", 5, "slurm::99:")


def test_slurm_step() -> None:
    launch = found(SLURM)
    assert (launch.source, launch.rank, launch.local_rank, launch.world_size) == ("slurm", 3, 1, 4)
    assert (launch.node_rank, launch.restart_hint, launch.job_id) == (1, 1, "slurm::99:0")


def test_a_slurm_batch_script_is_no_rank() -> None:
    batch = {name: text for name, text in SLURM.items() if name != "SLURM_STEP_ID"}
    assert found(batch).rank is None
    assert found({**SLURM, "SLURM_JOB_NAME": "interactive"}).rank is None


def test_a_requeued_slurm_job_keeps_its_identity() -> None:
    again = {**SLURM, "SLURM_RESTART_COUNT": "2"}
    assert identify_job(found(SLURM)) == identify_job(found(again))


def test_open_mpi_pmi_and_horovod() -> None:
    mpi = found({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_NAMESPACE": "prte-1"})
    assert (mpi.source, mpi.rank, mpi.world_size, mpi.job_id) == ("openmpi", 1, 2, "openmpi:prte-1:")
    pmi = found({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"})
    assert (pmi.source, pmi.rank, pmi.world_size, pmi.is_on_one_node) == ("pmi", 1, 2, True)
    horovod = found({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_CROSS_RANK": "0"})
    assert (horovod.source, horovod.rank, horovod.world_size, horovod.node_rank) == ("horovod", 1, 2, 0)


def test_kubernetes_indexed_job() -> None:
    launch = found({"JOB_COMPLETION_INDEX": "2", "HOSTNAME": "train-2", "WORLD_SIZE": "4"})
    assert (launch.source, launch.rank, launch.world_size) == ("kubernetes", 2, 4)
    assert launch.job_id == "kubernetes::train"


def test_plain_rank_variables_win_over_an_allocation_around_them() -> None:
    launch = found({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", **SLURM})
    assert (launch.source, launch.rank, launch.world_size) == ("env", 1, 2)
    assert launch.is_on_one_node is True


def test_nonsense_in_the_environment_is_not_fatal() -> None:
    launch = found({"RANK": "x", "WORLD_SIZE": "", "SLURM_PROCID": "?"})
    assert launch.rank is None


def fake_ray(**context: Any) -> dict[str, Any]:
    runtime = types.SimpleNamespace(get_job_id=lambda: "01000000", get_session_name=lambda: "session_1")
    ray = types.SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: runtime)
    worker = types.SimpleNamespace(
        **{f"get_{name}": (lambda value=value: value) for name, value in context.items()}
    )
    return {"ray": ray, "ray.train": types.SimpleNamespace(get_context=lambda: worker)}


def test_ray_train() -> None:
    modules = fake_ray(
        world_size=4, world_rank=2, local_rank=0, node_rank=1, experiment_name="exp", trial_id="t1"
    )
    launch = found({"RANK": "9", "WORLD_SIZE": "99"}, modules)
    assert (launch.source, launch.rank, launch.local_rank, launch.world_size) == ("ray", 2, 0, 4)
    assert launch.job_id == "ray:session_1:01000000:exp:t1"


def test_a_plain_ray_task_has_a_job_but_no_rank() -> None:
    launch = found({}, fake_ray())
    assert (launch.source, launch.rank, launch.job_id) == ("ray", None, "ray:session_1:01000000")


def test_ray_that_raises_is_no_launcher() -> None:
    def refuse() -> bool:
        raise RuntimeError

    assert found({}, {"ray": types.SimpleNamespace(is_initialized=refuse)}).source is None


def test_one_node_is_identified_by_its_launcher() -> None:
    first = Launch("torchrun", rank=0, world_size=2, local_world_size=2, launcher_pid=7, launcher_start=1.0)
    second = Launch("torchrun", rank=1, world_size=2, local_world_size=2, launcher_pid=7, launcher_start=1.0)
    other = Launch("torchrun", rank=0, world_size=2, local_world_size=2, launcher_pid=7, launcher_start=2.0)
    assert identify_job(first) == identify_job(second)
    assert identify_job(first) != identify_job(other)
    assert not identify_job(first).is_of_one_node


def test_many_nodes_without_a_job_id_ask_the_store_or_say_so() -> None:
    launch = Launch("torchrun", rank=0, world_size=4, local_world_size=2, launcher_pid=7, launcher_start=1.0)
    assert identify_job(launch, lambda _: "token").parts == ("c10d", "token")
    assert identify_job(launch, lambda _: None).is_of_one_node


def test_a_real_job_id_asks_nobody() -> None:
    def fail(_: Launch) -> str:
        pytest.fail("nobody is to be asked")

    assert identify_job(Launch("ray", job_id="j", world_size=4), fail).parts == ("job", "j")
