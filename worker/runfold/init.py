"""init(): begin or join a run. In: arguments, settings, environment, launcher. Out: a Run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runfold import config as config_module
from runfold import terminal
from runfold.acknowledgement import knows_a_server
from runfold.current_run import current_run, set_current
from runfold.errors import Error, UsageError
from runfold.joining import Joiner, Membership
from runfold.protocol.branching import FORK, RESUME, REWIND, Branch
from runfold.resume import forget_last_run, last_run_id, remember_run
from runfold.run import Run
from runfold.settings import Settings, process_environment

_joiner = Joiner()
#: Runs of this process that are not finished, oldest first.
_active: list[Run] = []


def init(  # noqa: PLR0917  # W&B's signature
    entity: str | None = None,
    project: str | None = None,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002  # W&B's name
    id: str | None = None,  # noqa: A002  # same
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | None = None,
    config: Any = None,
    config_exclude_keys: Iterable[str] | None = None,
    config_include_keys: Iterable[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    force: bool | None = None,
    reinit: str | bool | None = None,
    resume: str | bool | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    save_code: bool | None = None,
    tensorboard: bool | None = None,
    sync_tensorboard: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    anonymous: str | None = None,
    *,
    fold: int | str | None = None,
    label: str | None = None,
    primary: bool | None = None,
    magic: Any = None,
) -> Run:
    """Begin a run, or join one. Waits for nobody, unless it has to ask the server: a second at most with an
    id (was its run deleted?), up to `init_timeout` to resume, rewind or fork (docs/resume.md).

    Under a launcher (torchrun, Ray, Slurm, MPI, ...) with more than one rank, and with neither id, group nor
    mode given, all ranks join one shared run.

    Args:
        entity: The owner; "local" by default.
        project: What the run belongs to.
        dir: Where the run's own files go.
        id: The run's id; a run with this id that exists already is continued.
        name: Display name; a readable one is made by default.
        tags: Short words to find the run by.
        config: Settings of the training: a dict, a namespace, or the path of a YAML file.
        group: Ties runs together: the ranks of a job, the folds of a cross-validation.
        mode: "online", "offline" (only spooled), "shared" (many processes write one run), "disabled".
        reinit: What to do when a run is active: "return_previous", "finish_previous" or "create_new".
        resume: "allow", "must", "never" or "auto": whether to go on with a run that exists (docs/resume.md).
        fork_from, resume_from: "run_id?_step=N": a moment to continue from, as a new run or the same one.
        fold: Which fold of a cross-validation this is.
        label: This process's display name among the writers of a shared run.
        primary: Whether this writer speaks for the run where writers differ.
        settings: A Settings, or a dict of its fields.

    Raises:
        UsageError: An id, a project or a combination of arguments that can't be; or resume="must" or "never"
            and the run does not exist, or does.
        CommError: resume="must" or "never", and the server can't be asked; or a run of this id was deleted.
        ValidationError: A setting has a value that it can't have.
    """
    arguments: dict[str, Any] = {
        "entity": entity,
        "project": project,
        "root_dir": os.fspath(dir) if dir is not None else None,
        "run_id": id,
        "run_name": name,
        "run_notes": notes,
        "run_tags": tuple(tags) if tags is not None else None,
        "allow_val_change": allow_val_change,
        "run_group": group,
        "run_job_type": job_type,
        "mode": mode,
        "reinit": reinit,
        "resume": resume,
        "resume_from": resume_from,
        "fork_from": fork_from,
        "x_label": label,
        "x_primary": primary,
    }
    _accept_without_use(
        force=force,
        save_code=save_code,
        tensorboard=tensorboard,
        sync_tensorboard=sync_tensorboard,
        monitor_gym=monitor_gym,
        anonymous=anonymous,
        magic=magic,
    )
    environ = process_environment()
    resolved = Settings.resolved(arguments, settings, environ)
    terminal.be_silent(silent=resolved.silent)
    # As W&B: WANDB_DISABLED counts where no mode was said.
    is_disabled = resolved.mode == "disabled" or (resolved.mode is None and resolved.disabled)
    previous = None if is_disabled else _settle_previous(resolved)
    if previous is not None:
        return previous
    initial = _initial_config(config, config_include_keys, config_exclude_keys)
    if is_disabled:
        from runfold.disabled import DisabledRun

        ignored = DisabledRun(resolved, initial, on_finish=_forget)
        set_current(ignored)  # as W&B: whatever is active goes on, and is current no more
        return ignored
    if resolved.resume == "auto" and resolved.run_id is None:
        resolved.run_id = last_run_id(resolved)
    membership = _joiner.join(
        resolved,
        environ,
        arguments=arguments,
        fold=fold,
        mode_said=resolved.mode in ("online", "run", "shared"),
    )
    moment = resolved.fork_from or resolved.resume_from
    if moment is not None:
        initial.setdefault(config_module.RESERVED, {})["branch_point"] = {
            "run_id": moment.run,
            "step": moment.value,
        }
    if _goes_on(resolved, membership):
        from runfold.going_on import go_on

        membership = go_on(resolved, membership)
    elif _may_have_been_deleted(resolved, membership):
        from runfold.deleted_run import refuse_if_deleted

        refuse_if_deleted(membership.node, membership.identity)
    identity = membership.identity
    resolved.update(
        {
            "x_label": identity.label,
            "run_id": identity.run_id,
            "entity": identity.entity,
            "project": identity.project,
            "run_name": identity.name,
        }
    )
    run = Run(membership, resolved, initial, on_finish=_forget)
    if resolved.resume == "auto":
        remember_run(resolved, run.id)
    _introduce(run)
    run._begin_console()  # noqa: SLF001  # init makes runs
    return _activate(run)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Finish the current run, if there is one."""
    run = current_run()
    if run is not None:
        run.finish(exit_code, quiet)


def _settle_previous(settings: Settings) -> Run | None:
    """Return the active run if this init() shall give it back; finish it if it is to be finished."""
    if isinstance(settings.reinit, bool):
        terminal.warn(
            "Using a boolean value for 'reinit' is deprecated. "
            "Use 'return_previous' or 'finish_previous' instead."
        )
    if not _active:
        return None
    reinit = settings.reinit
    if reinit == "default" and terminal.is_notebook():
        reinit = "finish_previous"
    match reinit:
        case "create_new":
            return None
        case "finish_previous" | True:
            for run in reversed(list(_active)):
                run.finish()
            return None
    if settings.resume == "must":
        raise Error("Cannot resume a run while another run is active in this process: finish it first")
    return _active[-1]


def _goes_on(settings: Settings, membership: Membership) -> bool:
    """Whether another run, or this one, has to be asked about; a new id that no rank shares has no past."""
    if settings.fork_from is not None or settings.resume_from is not None or settings.resume == "must":
        return True
    return settings.resume is not None and (
        settings.run_id is not None or membership.identity.rank is not None
    )


def _may_have_been_deleted(settings: Settings, membership: Membership) -> bool:
    """Whether the run has to be looked up: only an id that somebody gave was ever used."""
    return (
        settings.run_id is not None
        and (membership.identity.mode == "grouped" or membership.identity.rank in (None, 0))
        and not membership.is_offline
        and knows_a_server(membership.node)
    )


def _activate(run: Run) -> Run:
    _active.append(run)
    if current_run() is None and run.settings.reinit != "create_new":
        set_current(run)
    return run


def _forget(run: Run, code: int | None) -> None:
    if run in _active:
        _active.remove(run)
    if current_run() is run:
        set_current(None)
    if run.settings.resume == "auto" and code == 0:
        forget_last_run(run.settings)


def _initial_config(
    config: Any, include_keys: Iterable[str] | None, exclude_keys: Iterable[str] | None
) -> dict[str, Any]:
    if include_keys is not None and exclude_keys is not None:
        raise UsageError("Expected at most only one of config_exclude_keys or config_include_keys")
    given = config_module.parse_source(config) if config is not None else {}
    if include_keys is not None:
        terminal.warn_once("config_include_keys is deprecated: pick the keys of `config` yourself")
        included = set(include_keys)
        given = {key: value for key, value in given.items() if key in included}
    if exclude_keys is not None:
        terminal.warn_once("config_exclude_keys is deprecated: pick the keys of `config` yourself")
        excluded = set(exclude_keys)
        given = {key: value for key, value in given.items() if key not in excluded}
    found = {**config_module.read_defaults(Path.cwd()), **given}
    if isinstance(found.get(config_module.RESERVED), Mapping):
        found[config_module.RESERVED] = dict(found[config_module.RESERVED])
    return found


def _accept_without_use(**said: Any) -> None:
    for name in ("sync_tensorboard", "tensorboard", "monitor_gym"):
        if said[name]:
            terminal.warn_once(f"init({name}=...) is accepted and does nothing in this version of runfold")


def _where_from(branch: Branch | None) -> str:
    if branch is None:
        return ""
    how = {RESUME: "resumed after", REWIND: "rewound to", FORK: f"forked from {branch.run} at"}
    return f", {how.get(branch.kind, branch.kind)} step {branch.step}" if branch.step >= 0 else ""


def _introduce(run: Run) -> None:
    node = run._membership.node  # noqa: SLF001  # init makes runs
    if run.settings.quiet:
        return
    identity = run._membership.identity  # noqa: SLF001  # same
    part = (f", {identity.label}" if identity.label else "") + _where_from(identity.branch)
    if run.offline:
        terminal.info(f"run {run.name} ({run.path}{part}) is spooled only; `runfold sync` delivers it")
    elif not knows_a_server(node):
        terminal.info(
            f"run {run.name} ({run.path}{part}): no server is running, so it is spooled, and delivered when "
            "one starts (`runfold up`, or set RUNFOLD_URL)"
        )
    else:
        where = run.url
        terminal.info(f"run {run.name} ({run.path}{part})" + (f" at {where}" if where else ""))
