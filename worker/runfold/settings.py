"""Settings of a run, under W&B's names. In: arguments, a Settings, the environment. Out: checked Settings.

The only module of the SDK that reads the environment.
Precedence: argument > settings > RUNFOLD_* > WANDB_* > default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from runfold.errors import ValidationError
from runfold.ignored_settings import IGNORED_SETTINGS
from runfold.run_moment import RunMoment
from runfold.setting_checks import CHECKS

#: Variables whose name is not the field's.
_VARIABLES = {
    "JOB_TYPE": "run_job_type",
    "NAME": "run_name",
    "TAGS": "run_tags",
    "NOTES": "run_notes",
    "URL": "base_url",
    "LABEL": "x_label",
    "PRIMARY": "x_primary",
    "DIR": "root_dir",
    "STACKS": "x_stacks",
}
_SECRETS = frozenset({"api_key", "redis_url"})
#: Fields that have a second name.
_ALIASES = {"finish_timeout_s": "finish_timeout"}


class Settings:
    """How a run is to be made. Values are checked when set: ValidationError, or UsageError for ids."""

    project: str | None = None
    entity: str | None = None
    run_id: str | None = None
    run_group: str | None = None
    run_job_type: str | None = None
    run_name: str | None = None
    run_notes: str | None = None
    run_tags: tuple[str, ...] | None = None
    #: None means online, and that ranks of one job may join one run.
    mode: str | None = None
    resume: str | None = None
    fork_from: RunMoment | None = None
    resume_from: RunMoment | None = None
    reinit: str | bool = "default"
    console: str = "auto"
    silent: bool = False
    quiet: bool = False
    disabled: bool = False
    allow_val_change: bool = False
    #: Address of the coordinator; None: the local server, once there is one.
    base_url: str | None = None
    api_key: str | None = None
    redis_url: str | None = None
    #: Where the run's own files go (W&B's `dir`).
    root_dir: str | None = None
    #: Spools and everything else that outlives the process; on a local disk.
    runfold_dir: str | None = None
    #: The sweep that the run is started for, and the address of its page where that is not the server's own.
    sweep_id: str | None = None
    sweep_url: str | None = None
    #: Not to be looked up: the git repository around the working directory; anything of what the process was
    #: started from (command line, repository, interpreter, user).
    disable_git: bool = False
    x_disable_meta: bool = False
    host: str | None = None
    program: str | None = None
    #: Display name of this writer among the run's writers.
    x_label: str | None = None
    x_primary: bool | None = None
    #: Whether this writer's end counts for the run's state.
    x_update_finish_state: bool = True
    init_timeout: float = 90.0
    #: Longest wait of finish() for the acknowledgement, in seconds; 0: none. Also as `finish_timeout_s`.
    finish_timeout: float = 30.0
    finish_timeout_raises: bool = False
    #: Whether SIGTERM and SIGHUP, and a SIGINT that ends the script, are recorded before they take effect.
    x_record_signals: bool = True
    #: Only spool, in whatever mode: what mode="offline" in the environment means to a run with mode="shared".
    x_offline: bool = False
    #: Whether the process may be asked for its stacks, by a signal that it has no use for.
    x_stacks: bool = True
    #: Whether ranks of one job join one run when neither id, group nor mode is given.
    x_join_ranks: bool = True
    #: Whether the node's agent leaves this process out of its samples of processors, memory and GPUs.
    x_disable_stats: bool = False
    #: Seconds between these samples, 0: none; None: as the agent likes (10).
    x_stats_sampling_interval: float | None = None

    def __init__(self, **values: Any) -> None:
        #: Fields that somebody set, as against defaults.
        self.__dict__["_said"] = set()
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        name = _ALIASES.get(name, name)
        check = CHECKS.get(name)
        if check is not None:
            if value is not None:
                value = check(name, value)
            elif getattr(type(self), name) is not None:
                return  # None for a setting that has a default means the default
        elif name not in IGNORED_SETTINGS:
            raise ValidationError(name, "Extra inputs are not permitted", value)
        self.__dict__[name] = value
        self._said.add(name)

    def __getattr__(self, name: str) -> Any:
        if name in IGNORED_SETTINGS:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        shown = [f"{name}={self.__dict__[name]!r}" for name in sorted(self._said - _SECRETS)]
        return f"Settings({', '.join(shown + [f'{name}=***' for name in sorted(self._said & _SECRETS)])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __deepcopy__(self, memo: object) -> Self:
        return self._copy()

    def __copy__(self) -> Self:
        return self._copy()

    def _copy(self) -> Self:
        copied = type(self)()
        copied.__dict__.update(self.__dict__, _said=set(self._said))
        return copied

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several fields; a None changes nothing."""
        for name, value in values.items():
            if value is not None:
                setattr(self, name, value)

    @property
    def said(self) -> frozenset[str]:
        """Names of the fields that somebody set."""
        return frozenset(self._said)

    def to_dict(self) -> dict[str, Any]:
        """Return what was set, secrets left out."""
        return {name: self.__dict__[name] for name in sorted(self._said - _SECRETS)}

    @property
    def home(self) -> Path:
        """The folder of spools: RUNFOLD_DIR, else ~/.runfold."""
        return Path(self.runfold_dir or "~/.runfold").expanduser().absolute()

    @classmethod
    def resolved(
        cls,
        arguments: Mapping[str, Any],
        settings: Settings | Mapping[str, Any] | None,
        environ: Mapping[str, str],
    ) -> Self:
        """Merge the sources into one Settings, each over the one below.

        Raises:
            ValidationError: A value breaks a rule, wherever it came from; UsageError for ids and projects.
        """
        merged = cls()
        modes: list[str | None] = []
        said: Mapping[str, Any] = {}
        if isinstance(settings, Settings):
            said = {name: settings.__dict__[name] for name in settings.said}
        elif isinstance(settings, Mapping):  # anything else is passed over, as W&B does
            said = settings
        for source in (read_environment(environ), said, arguments):
            merged.update(source)
            modes.append(source.get("mode"))
        # Shared says who writes, offline where to: said in two places, both hold.
        if merged.mode in ("shared", "offline", "dryrun") and "shared" in modes:
            merged.x_offline = merged.x_offline or not {"offline", "dryrun"}.isdisjoint(modes)
            merged.mode = "shared"
        merged._check_moments()
        return merged

    def _check_moments(self) -> None:
        said = [name for name in ("resume", "fork_from", "resume_from") if getattr(self, name)]
        if len(said) > 1:
            raise ValidationError(said[1], "`fork_from`, `resume`, or `resume_from` are mutually exclusive")
        if self.fork_from is not None and self.fork_from.run == self.run_id:
            raise ValidationError(
                "fork_from",
                "Provided `run_id` is the same as the run to `fork_from`. Please provide a different "
                "`run_id` or remove the `run_id` argument. If you want to rewind the current run, please use "
                "`resume_from` instead.",
            )
        if self.resume_from is not None:
            if self.run_id is not None and self.run_id != self.resume_from.run:
                raise ValidationError(
                    "resume_from", "Both `run_id` and `resume_from` have been specified with different ids."
                )
            self.run_id = self.resume_from.run


def process_environment() -> Mapping[str, str]:
    """Return the environment that settings and launchers are read from."""
    return os.environ


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the environment gives; RUNFOLD_* over WANDB_*."""
    found: dict[str, Any] = {}
    for prefix in ("WANDB_", "RUNFOLD_"):
        for variable, text in environ.items():
            if not variable.startswith(prefix):
                continue
            name = variable[len(prefix) :]
            field = _field_of(name.lower(), name)
            if prefix == "RUNFOLD_" and name == "DIR":
                field = "runfold_dir"
            if prefix == "WANDB_" and field == "base_url" and "wandb.ai" in text:
                continue  # their cloud is not our coordinator
            if field is None or field in IGNORED_SETTINGS or (text == "" and field != "run_tags"):
                continue
            if field == "run_tags":
                found[field] = tuple(tag for tag in text.split(",") if tag)
            else:
                found[field] = text
    return found


def _field_of(name: str, variable: str) -> str | None:
    if variable in _VARIABLES:
        return _VARIABLES[variable]
    name = _ALIASES.get(name, name)
    if name.startswith("_"):  # WANDB__LABEL is x_label
        name = "x" + name
    return name if name in CHECKS else None
