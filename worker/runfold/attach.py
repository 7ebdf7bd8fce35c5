"""A run taken to another process by pickling: there it is a writer of its own in the same run."""

from __future__ import annotations

import os
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runfold import terminal
from runfold.family_step import FILE_NAME, FamilyStep
from runfold.joining import Membership
from runfold.node.settings import NodeSettings
from runfold.protocol.identity import Identity
from runfold.run_spool import RunSpool, share_step
from runfold.settings import Settings, process_environment

if TYPE_CHECKING:
    from runfold.run import Run

#: Fields of Settings that a child needs; keys and passwords it finds in its own environment.
_CARRIED = ("finish_timeout", "quiet", "silent", "root_dir", "runfold_dir", "x_offline", "x_record_signals")

#: What was attached in this process, by the file of its family.
_attached: weakref.WeakValueDictionary[str | None, Run] = weakref.WeakValueDictionary()


def pack_run(run: Run) -> dict[str, Any]:
    """Return what another process needs to go on with the run: plain values, no secrets."""
    membership = run._membership  # noqa: SLF001  # the other half of the same class
    settings = run.settings
    family = share_step(run._recorder, run._spool)  # noqa: SLF001  # same
    return {
        "pid": os.getpid(),
        "writer": run._spool.writer_id,  # noqa: SLF001  # same
        "identity": membership.identity.to_map(),
        "is_offline": membership.is_offline,
        "target": membership.node.target,
        "url": membership.node.url,
        "config": run.config._as_stored(),  # noqa: SLF001  # same
        "settings": {name: getattr(settings, name) for name in _CARRIED},
        "mode": settings.mode,
        "step": run.step,
        "family": str(family) if family is not None else None,
        "rank": process_environment().get("RANK"),
    }


def attach(packed: dict[str, Any]) -> Run:
    """Return the run as it is in this process; RuntimeError in the process that packed it."""
    from runfold.current_run import current_run, set_current
    from runfold.run import Run

    if packed["pid"] == os.getpid():
        raise RuntimeError("attach in the same process is not supported")
    current = current_run()
    for known in (current, _attached.get(packed["family"])):
        if isinstance(known, Run) and _is_same(known, packed):
            return known  # a pool pickles the run, or run.log, with every task
    environ = process_environment()
    settings = Settings.resolved({**packed["settings"], "mode": packed["mode"]}, None, environ)
    terminal.be_silent(silent=settings.silent)
    identity = replace(Identity.from_map(packed["identity"]), start_step=packed["step"])
    node = replace(
        NodeSettings.from_env(environ), runfold_dir=settings.home, target=packed["target"], url=packed["url"]
    )
    membership = Membership(identity, node, packed["is_offline"])
    family = Path(packed["family"]) if packed["family"] is not None else None
    run_spool = RunSpool(
        membership,
        settings,
        is_child=True,
        rank_before=packed["rank"],
        parent=packed["writer"],
        family=family.parent if family is not None else None,
    )
    run = Run(membership, settings, packed["config"], run_spool=run_spool)
    if family is not None:
        try:
            run._recorder.share_step(FamilyStep(family, create=False))  # noqa: SLF001  # same
        except OSError:
            pass  # the maker's spool was delivered and removed: this process counts its own
    if current is None:
        set_current(run)
    _attached[packed["family"]] = run
    return run


def _is_same(run: Run, packed: dict[str, Any]) -> bool:
    """Whether this process has the run already, by fork or by an earlier pickle."""
    family = str(run._spool.family / FILE_NAME) if run._spool.family is not None else None  # noqa: SLF001  # same
    return family is not None and family == packed["family"] and not run._recorder.is_ended  # noqa: SLF001  # same
