"""init(resume=, resume_from=, fork_from=): where a run goes on from. Asks the server, else the local spools.

In: settings and the membership as it would be. Out: the membership as it is. Only who asks for one of these
comes here: it may wait for the server, some seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from runfold import terminal
from runfold.deleted_run import refuse
from runfold.errors import CommError, UsageError
from runfold.joining import Inherited, Membership
from runfold.local_runs import LocalRun, find_writers, read_run, tail_of
from runfold.node.settings import NodeSettings
from runfold.protocol.branching import FORK, RESUME, REWIND, SERVER, SPOOLS, Branch
from runfold.protocol.identity import Identity
from runfold.resume_question import PATIENCE_OF_MUST_S, PATIENCE_S, Known, Question
from runfold.run_moment import RunMoment
from runfold.settings import Settings

#: Makes what asks the server: of a node, with a patience in seconds.
Asking = Callable[[NodeSettings, float], Question]


def _question(node: NodeSettings, patience_s: float) -> Question:
    return Question(node, patience_s=patience_s)


def go_on(settings: Settings, membership: Membership, *, asking: Asking = _question) -> Membership:
    """Return the membership with the run's first step and what it inherits.

    Raises:
        UsageError: The run exists and must not, or the other way round.
        CommError: That could not be found out.
    """
    if settings.fork_from is not None:
        return _fork(settings, membership, settings.fork_from, asking)
    if settings.resume_from is not None:
        return _rewind(settings, membership, settings.resume_from, asking)
    return _resume(settings, membership, asking)


def _resume(settings: Settings, membership: Membership, asking: Asking) -> Membership:
    identity, node = membership.identity, membership.node
    is_strict = settings.resume in ("must", "never")
    local = find_writers(node, identity)
    known: Known | None = None
    if not membership.is_offline:
        question = asking(node, min(PATIENCE_OF_MUST_S if is_strict else PATIENCE_S, settings.init_timeout))
        try:
            known = question.ask(identity, identity.run_id)
        except CommError as error:
            if is_strict:
                raise CommError(
                    f"resume={settings.resume!r}: whether run {identity.run_path} exists could not be found "
                    f"out: {error}. Start the server, or use resume='allow', which goes on without it",
                    error.exc,
                ) from error
            terminal.warn(
                f"run {identity.run_id} could not be looked up to be resumed: {error}. It goes on"
                + (" from what this machine's spools know" if local else " as if it were new")
                + "; nothing that was logged before is lost"
            )
    if known is not None and known.deleted:
        refuse(identity)
    if known is not None and not known.exists and any(one.is_behind for one in local):
        known = None  # it has not got anything of the run yet: this machine has
    exists = bool(local) if known is None else known.exists
    _check(settings, identity, exists=exists, is_sure=not membership.is_offline)
    if not exists:
        return membership
    if known is None:
        return _from_spools(settings, membership, read_run(local))
    last_step = known.last_step
    if local and local[-1].is_behind:
        # Its last rows are still on their way from this machine.
        last_step = max(last_step, tail_of(local[-1])[0])
    summary: dict[str, Any] = {}
    try:
        summary = question.summary(identity)
    except CommError as error:
        terminal.warn(f"run {identity.run_id} is resumed without its summary here: {error}")
    branch = Branch(RESUME, identity.run_id, last_step, known.after_unix_ns, known.runtime_s, SERVER)
    _tell_of_living(known.live, last_step + 1)
    return _with(settings, membership, branch, known, summary)


def _check(settings: Settings, identity: Identity, *, exists: bool, is_sure: bool) -> None:
    """Refuse what resume= does not allow; what is not known is settled when the run is delivered."""
    if settings.resume == "never" and exists:
        raise UsageError(
            f"resume='never': run {identity.run_path} exists already. Use another id, or resume='allow' to "
            "go on with it"
        )
    if settings.resume == "must" and not exists and is_sure:
        raise UsageError(
            f"resume='must': run {identity.run_path} does not exist, or was never started. Check id, project "
            "and entity, or use resume='allow' to begin it"
        )


def _rewind(settings: Settings, membership: Membership, moment: RunMoment, asking: Asking) -> Membership:
    identity = membership.identity
    known = _ask(settings, membership, asking, REWIND, moment)
    if known is not None and known.deleted:
        refuse(identity)
    local = find_writers(membership.node, identity) if known is None else []
    after = known.after_unix_ns if known is not None else 0
    runtime_s = known.runtime_s if known is not None else None
    if known is not None and not known.exists:
        terminal.warn(
            f"{moment}: the server does not know run {identity.run_path} (yet): nothing is taken back"
        )
    elif known is not None and known.last_step < moment.value:
        terminal.warn(f"{moment}: run {identity.run_path} has come to step {known.last_step} only")
    if local:
        spooled = read_run(local)
        after, found = spooled.begins_unix_ns, spooled
        known = Known(exists=True, config=found.config, **_words_of(found))
    branch = Branch(REWIND, identity.run_id, moment.value, after, runtime_s)
    if known is None or not known.exists:
        return replace(membership, identity=replace(identity, branch=branch))
    _tell_of_living(known.live, moment.value + 1)
    summary: dict[str, Any] = {}
    if not local:
        try:
            question = asking(membership.node, min(PATIENCE_S, settings.init_timeout))
            summary = question.summary_at(identity, moment.value)
        except CommError as error:
            terminal.warn(f"run {identity.run_id} is rewound without its summary here: {error}")
    return _with(settings, membership, branch, known, summary)


def _fork(settings: Settings, membership: Membership, moment: RunMoment, asking: Asking) -> Membership:
    identity = membership.identity
    known = _ask(settings, membership, asking, FORK, moment)
    after = known.after_unix_ns if known is not None else 0
    if known is not None and known.deleted:
        terminal.warn(
            f"{moment}: that run was deleted; its rows are kept for its forks, and this one begins with them"
        )
    elif known is not None and not known.exists:
        path = f"{identity.entity}/{identity.project}/{moment.run}"
        terminal.warn(
            f"{moment}: the server does not know run {path} (yet): run {identity.run_id} shows its rows once "
            "it is delivered"
        )
    elif known is not None and known.last_step < moment.value:
        terminal.warn(f"{moment}: that run has come to step {known.last_step} only")
    if known is None:
        local = find_writers(membership.node, identity, moment.run)
        after = max((one.identity.begins_unix_ns for one in local), default=0)
    else:
        own = _ask(settings, membership, asking, RESUME, RunMoment(identity.run_id, -1))
        if own is not None and own.deleted:
            refuse(identity)
        if own is not None and own.exists and own.fork != {"run_id": moment.run, "step": moment.value}:
            terminal.warn(
                f"run {identity.run_path} exists already, and is no fork of {moment}: what it has stays as "
                "it is. Use a new id to fork"
            )
    branch = Branch(FORK, moment.run, moment.value, after)
    return replace(membership, identity=replace(identity, branch=branch))


def _ask(
    settings: Settings, membership: Membership, asking: Asking, kind: str, moment: RunMoment
) -> Known | None:
    """Return what the server knows of the moment's run; None offline, or where it can't be asked."""
    if membership.is_offline:
        return None
    identity = membership.identity
    question = asking(membership.node, min(PATIENCE_S, settings.init_timeout))
    try:
        return question.ask(identity, moment.run, kind=kind, step=moment.value)
    except CommError as error:
        terminal.warn(
            f"{moment} could not be looked up: {error}. The run goes on from step {moment.value + 1}; what "
            "came before is settled when it is delivered"
        )
        return None


def _from_spools(settings: Settings, membership: Membership, found: LocalRun) -> Membership:
    branch = Branch(
        RESUME,
        membership.identity.run_id,
        found.last_step,
        found.begins_unix_ns,
        found.runtime_s,
        SPOOLS,
    )
    known = Known(exists=True, config=found.config, **_words_of(found))
    return _with(settings, membership, branch, known, found.summary)


def _words_of(found: LocalRun) -> dict[str, Any]:
    said = found.newest or Identity()
    names = ("name", "notes", "tags", "group", "job_type")
    return {name: getattr(said, name) for name in names}


def _with(
    settings: Settings, membership: Membership, branch: Branch, known: Known, summary: dict[str, Any]
) -> Membership:
    """Return the membership of a run that goes on: what was not said anew stays as it was."""
    if known.left_out:
        parts = " and ".join(known.left_out)
        terminal.warn(f"run {branch.run}: its {parts} is too large to be loaded here; it stays as it is")
    identity = membership.identity
    identity = replace(
        identity,
        branch=branch,
        start_step=branch.next_step,
        name=settings.run_name or known.name or identity.name,
        group=identity.group or known.group,
        job_type=identity.job_type or known.job_type,
    )
    inherited = Inherited(known.config, summary, known.notes, known.tags)
    return replace(membership, identity=identity, is_resumed=True, inherited=inherited)


def _tell_of_living(live: Sequence[dict[str, Any]], first_step: int) -> None:
    if not live:
        return
    named = ", ".join(
        f"{one['host']}:{one['pid']}" + (f" (rank {one['rank']})" if one["rank"] is not None else "")
        for one in live[:4]
    )
    more = f" and {len(live) - 4} more" if len(live) > 4 else ""
    terminal.warn(
        f"the run is still written by {named}{more}. What these log from step {first_step} on is kept beside "
        "this process's rows, superseded by them"
    )
