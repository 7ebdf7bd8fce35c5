"""Which run this process belongs to, and as which writer. In: settings, the launcher's word. Out: Identity.

Every rank computes the same run alone; nobody asks anybody, but for one store that torch may have open.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runfold import stack_signal, terminal
from runfold.launch import Launch, detect, identify_job
from runfold.naming import check_run_id, hashed_id, random_id, readable_name
from runfold.node.processes import boot_id, pid_namespace, start_of
from runfold.node.settings import DEFAULT_STATS_INTERVAL_S, OFFLINE_TARGET, NodeSettings, target_of
from runfold.origin import find_origin
from runfold.protocol.identity import Identity, Launcher
from runfold.settings import Settings, process_environment

DEFAULT_ENTITY = "local"
DEFAULT_PROJECT = "uncategorized"
_OFFLINE_MODES = frozenset({"offline", "dryrun"})


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a run that goes on had before: shown by this process, and not said again by it."""

    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Membership:
    """A place in a run: who writes, and where its spool goes."""

    identity: Identity
    node: NodeSettings
    is_offline: bool
    is_resumed: bool = False
    inherited: Inherited = Inherited()


class Joiner:
    """Gives runs their ids. One per process: it counts the runs that the process begins unnamed."""

    def __init__(self) -> None:
        self._unnamed_count = 0

    def join(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        arguments: Mapping[str, Any],
        fold: int | str | None,
        mode_said: bool,
    ) -> Membership:
        """Decide the run and the writer for these settings.

        Args:
            arguments: What init() was called with, as against the environment.
            mode_said: Whether anybody chose between shared and grouped.
        """
        launch = detect(environ)
        is_ranked = (launch.world_size or 1) > 1 and launch.rank is not None
        is_shared = settings.mode == "shared"
        run_id = settings.run_id
        # An id from the environment is the same for all ranks: it names one run for them.
        named_by_caller = run_id is not None and arguments.get("run_id") is not None
        if (
            is_ranked
            and settings.x_join_ranks
            and not named_by_caller
            and not settings.run_group
            and not mode_said
        ):
            is_shared = True
        if run_id is None:
            run_id = self._new_id(launch, settings, is_ranked=is_ranked, is_shared=is_shared)
        check_run_id(run_id)
        node = node_settings(settings, environ)
        identity = Identity(
            entity=settings.entity or DEFAULT_ENTITY,
            project=settings.project or default_project(Path.cwd()),
            run_id=run_id,
            mode="shared" if is_shared else "grouped",
            group=settings.run_group,
            job_type=settings.run_job_type,
            fold=fold,
            name=settings.run_name or readable_name(run_id),
            notes=settings.run_notes,
            tags=settings.run_tags or (),
            label=settings.x_label or (default_label(launch, settings) if is_shared else None),
            primary=settings.x_primary,
            sweep_id=settings.sweep_id,
            update_finish_state=settings.x_update_finish_state,
            start_step=start_step(settings),
            stats_interval_s=stats_interval_s(settings, node),
        )
        return Membership(as_this_process(identity, launch, settings), node, is_offline(settings))

    def _new_id(self, launch: Launch, settings: Settings, *, is_ranked: bool, is_shared: bool) -> str:
        if not is_ranked:
            return random_id()
        ordinal, self._unnamed_count = self._unnamed_count, self._unnamed_count + 1
        job = identify_job(launch)
        if job.is_of_one_node and is_shared:
            terminal.warn_once(
                "these ranks can't find out which job they share across nodes: there is one run per node. "
                "Set RUNFOLD_RUN_ID to the same new id on all nodes to have one run"
            )
        parts = (*job.parts, ordinal, settings.entity or "", settings.project or "")
        return hashed_id(*parts) if is_shared else hashed_id(*parts, launch.rank, settings.run_group or "")


def as_this_process(identity: Identity, launch: Launch, settings: Settings) -> Identity:
    """Return the identity with the facts of the process that runs now."""
    pid = os.getpid()
    return replace(
        identity,
        rank=launch.rank,
        local_rank=launch.local_rank,
        world_size=launch.world_size,
        node_rank=launch.node_rank,
        launcher=Launcher(
            source=launch.source,
            job_id=launch.job_id,
            restart_hint=launch.restart_hint,
            launcher_pid=launch.launcher_pid,
            launcher_start=launch.launcher_start,
            error_file=launch.error_file if launch.rank is not None else None,
            scheduler_job=launch.scheduler_job,
        ),
        host=settings.host or os.uname().nodename,
        pid=pid,
        pid_start=start_of(pid),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        visible_devices=launch.visible_devices,
        stack_signum=stack_signal.usable() if settings.x_stacks else None,
        started_unix_ns=time.time_ns(),
        program=settings.program or program(),
        python=".".join(map(str, sys.version_info[:3])),
        sdk_version=_version(),
        origin=origin_of(settings),
    )


def origin_of(settings: Settings) -> dict[str, Any] | None:
    """Return what this process was started from, as far as the settings let it be looked up."""
    if settings.x_disable_meta:
        return None
    return find_origin(process_environment(), with_git=not settings.disable_git)


def as_child(
    identity: Identity,
    environ: Mapping[str, str],
    settings: Settings,
    *,
    rank_before: str | None,
    forked_from: str | None = None,
) -> Identity:
    """Return the identity of a process that inherited a run: a writer of its own, that does not decide the
    run's end.

    Args:
        rank_before: RANK as the parent had it. Inherited, it is the parent's; changed since, the child's.
        forked_from: Id of the parent's writer.
    """
    launch = detect(environ)
    if environ.get("RANK") == rank_before:
        launch = replace(launch, rank=None, local_rank=None)
    child = as_this_process(identity, launch, settings)
    base = identity.label or (f"rank{identity.rank}" if identity.rank is not None else "main")
    label = f"{base}-child-{child.pid}" if child.rank is None else f"rank{child.rank}"
    return replace(
        child,
        label=label,
        primary=False,
        update_finish_state=False,
        forked_from=forked_from,
        branch=None,
    )


def is_offline(settings: Settings) -> bool:
    """Whether nobody is to be told now: the spool waits for `runfold sync`."""
    return settings.mode in _OFFLINE_MODES or settings.x_offline


def start_step(settings: Settings) -> int:
    """Return the first step: the one after the moment that the run branches from, else 0."""
    moment = settings.fork_from or settings.resume_from
    return moment.value + 1 if moment is not None else 0


def stats_interval_s(settings: Settings, node: NodeSettings) -> float | None:
    """Return how often the agent is to sample this process: 0 never, None as it likes.

    It is said of each run, since the agent may have been started by another one with other settings.
    """
    if settings.x_disable_stats or not node.stats:
        return 0.0
    if settings.x_stats_sampling_interval is not None:
        return settings.x_stats_sampling_interval
    return None if node.stats_interval_s == DEFAULT_STATS_INTERVAL_S else node.stats_interval_s


def default_label(launch: Launch, settings: Settings) -> str:
    """Return the display name of a writer of a shared run that was given none."""
    if launch.rank is not None:
        return f"rank{launch.rank}"
    return f"{settings.host or os.uname().nodename}-{random_id()[:4]}"


def node_settings(settings: Settings, environ: Mapping[str, str]) -> NodeSettings:
    """Return what the agent of this run's spool is to be told."""
    try:
        from_environment = NodeSettings.from_env(environ)
    except ValueError as error:
        terminal.warn(f"{error}; defaults are used for the node agent")
        from_environment = NodeSettings.from_env({})
    url, redis_url = settings.base_url, settings.redis_url
    return replace(
        from_environment,
        runfold_dir=settings.home,
        url=url,
        redis_url=redis_url,
        api_key=settings.api_key,
        target=OFFLINE_TARGET if is_offline(settings) else target_of(url, redis_url),
    )


def default_project(folder: Path) -> str:
    """Return the project of a script that names none: its git repository's folder, else "uncategorized"."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            inside = folder.relative_to(parent).parts
            return "-".join((parent.name, *inside))[:128] or DEFAULT_PROJECT
    return DEFAULT_PROJECT


def program() -> str | None:
    """Return the script's path as it was started; its arguments are in `origin`, secrets replaced."""
    first = sys.argv[0] if getattr(sys, "argv", None) else ""
    return first if first not in ("", "-c", "-m") else None


def _version() -> str:
    from runfold.version import VERSION

    return VERSION
