"""The alerts file: receivers and rules in TOML, checked whole before any of it counts.

The file is the administrator's word: addresses, commands and what they may reach come from here and from
nowhere else. Secrets never show in repr or in messages.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from runfold_coordinator.alerts.addresses import check_url
from runfold_coordinator.alerts.texts import check_template
from runfold_coordinator.api.patterns import compile_pattern

#: Largest file that is read.
MAX_FILE_BYTES = 1024 * 1024

Level = Literal["INFO", "WARN", "ERROR"]
State = Literal["running", "finished", "failed", "killed", "crashed", "preempting", "preempted"]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seconds = Annotated[float, Field(ge=0, le=30 * 86400.0)]


class AlertsConfigError(ValueError):
    """The alerts file is not what it should be; the message names the key."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Receiver(_Part):
    """Who is told, and how.

    Attributes:
        url, url_env: Address of a webhook; the second names an environment variable that holds it.
        secret, secret_env: Key of the webhook's signature; none: it is not signed.
        command: Program and arguments; the alert is JSON on its standard input.
        allow_http: http:// addresses too. allow_private: addresses that only this network can reach.
        ca_file: Certificates to trust instead of the system's.
        per_minute: Most deliveries in a minute; what is over waits.
        run_alerts: Whether Run.alert() comes here where no rule with `alert` says who gets it.
        min_level: Of Run.alert(): nothing below it comes here.
    """

    name: Name
    kind: Literal["webhook", "slack", "command"]
    url: SecretStr | None = None
    url_env: str | None = None
    secret: SecretStr | None = None
    secret_env: str | None = None
    command: tuple[str, ...] = ()
    allow_http: bool = False
    allow_private: bool = False
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    per_minute: Annotated[int, Field(ge=1, le=6000)] = 30
    run_alerts: bool = True
    min_level: Level = "INFO"

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Receiver:
        if self.kind == "command":
            if not self.command or not all(self.command):
                raise ValueError("command: a list with the program first, no empty texts")
            if self.url is not None or self.secret is not None:
                raise ValueError("url and secret are for webhooks")
        elif self.url is None:
            raise ValueError("url: the address to send to (or url_env: the variable that holds it)")
        elif self.command:
            raise ValueError('command is for kind = "command"')
        else:
            check_url(self.url.get_secret_value(), allow_http=self.allow_http)
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ValueError(f"ca_file: {self.ca_file} is no file")
        return self


class When(_Part):
    """What makes a rule true: one condition, and the runs that it looks at.

    Attributes:
        entity, project, group, run, name, tags: RE2 patterns that occur in the run's; of tags in any.
        state: The run is in one of these. rank_state: a process of its newest attempt is.
        unreachable, stalled, straggler, desync: As the run's verdicts tell.
        dead_letters, gaps: Records that could not be stored, or that a process could not keep.
        alert: Run.alert() of one of these levels.
        metric: This key, with `op` and `value`, or `not_finite`, or `no_data_s`.
        each_rank: Every rank's own values count, not those reduced over ranks.
        for_steps, for_s: Only when it has been so for so many values, and seconds, in a row.
    """

    entity: str | None = None
    project: str | None = None
    group: str | None = None
    run: str | None = None
    name: str | None = None
    tags: str | None = None
    state: tuple[State, ...] = ()
    rank_state: tuple[State, ...] = ()
    unreachable: bool = False
    stalled: bool = False
    straggler: bool = False
    desync: bool = False
    dead_letters: bool = False
    gaps: bool = False
    alert: tuple[Level, ...] = ()
    metric: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    op: Literal["<", "<=", ">", ">=", "==", "!="] | None = None
    value: float | None = None
    not_finite: bool = False
    no_data_s: Annotated[float, Field(gt=0, le=30 * 86400.0)] | None = None
    each_rank: bool = False
    for_steps: Annotated[int, Field(ge=1, le=100_000)] = 1
    for_s: Seconds = 0.0

    @field_validator("state", "rank_state", "alert", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("entity", "project", "group", "run", "name", "tags")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            compile_pattern(value)
        return value

    @model_validator(mode="after")
    def _has_one_condition(self) -> When:
        conditions = ("state", "rank_state", "unreachable", "stalled", "straggler", "desync")
        said = [
            name for name in (*conditions, "dead_letters", "gaps", "alert", "metric") if getattr(self, name)
        ]
        if len(said) != 1:
            found = " and ".join(said) or "none"
            raise ValueError(f"one condition a rule, here: {found}; write a rule for each")
        if said == ["metric"]:
            if (self.op is None) != (self.value is None):
                raise ValueError("op and value belong together")
            ways = (self.op is not None, self.not_finite, self.no_data_s is not None)
            if sum(ways) != 1:
                raise ValueError("metric: with op and value, or not_finite = true, or no_data_s")
        elif self.op is not None or self.value is not None or self.not_finite or self.no_data_s is not None:
            raise ValueError("op, value, not_finite and no_data_s need a metric")
        return self


class Rule(_Part):
    """When to tell whom what. Without `text`, one that suits the condition is made."""

    name: Name
    when: When
    receivers: Annotated[tuple[str, ...], Field(min_length=1)]
    level: Level = "WARN"
    wait_duration_s: Seconds = 60.0
    text: str | None = None

    @field_validator("text")
    @classmethod
    def _is_a_template(cls, value: str | None) -> str | None:
        if value is not None:
            check_template(value)
        return value


class AlertsConfig(_Part):
    """Everything in the file."""

    receiver: tuple[Receiver, ...] = ()
    rule: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> AlertsConfig:
        for what, names in (
            ("receiver", [r.name for r in self.receiver]),
            ("rule", [r.name for r in self.rule]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: the name {twice[0]!r} is given twice")
        known = {receiver.name for receiver in self.receiver}
        for rule in self.rule:
            for name in rule.receivers:
                if name not in known:
                    raise ValueError(f"rule {rule.name!r}: there is no receiver {name!r}")
        if any(rule.name == RUN_SOURCE for rule in self.rule):
            raise ValueError(f"rule: the name {RUN_SOURCE!r} is taken by Run.alert()")
        return self

    def find_receiver(self, name: str) -> Receiver | None:
        """Return the receiver of this name."""
        return next((receiver for receiver in self.receiver if receiver.name == name), None)


#: `source` of alerts that a process raised by itself.
RUN_SOURCE = "run"


def load_config(path: Path, environ: Mapping[str, str]) -> AlertsConfig:
    """Read the file.

    Raises:
        AlertsConfigError: It can't be read, is no TOML, or a key in it is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise AlertsConfigError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise AlertsConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        found = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise AlertsConfigError(f"{path}: no TOML: {error}") from error
    try:
        return AlertsConfig.model_validate(_with_environment(found, environ))
    except ValidationError as error:
        raise AlertsConfigError(
            f"{path}: {_told(error, found)}"
        ) from None  # its own text shows what was given
    except KeyError as error:
        raise AlertsConfigError(f"{path}: {error.args[0]}") from error


def _with_environment(found: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Put in what `url_env` and `secret_env` name."""
    receivers = found.get("receiver")
    if not isinstance(receivers, list):
        return found
    filled = []
    for at, receiver in enumerate(receivers):
        made = dict(receiver) if isinstance(receiver, dict) else receiver
        for name in ("url", "secret"):
            variable = made.get(f"{name}_env") if isinstance(made, dict) else None
            if isinstance(variable, str):
                if name in made:
                    raise KeyError(f"receiver[{at}].{name}: {name} or {name}_env, not both")
                if not environ.get(variable):
                    raise KeyError(f"receiver[{at}].{name}_env: the variable {variable} is not set")
                made[name] = environ[variable]
        filled.append(made)
    return found | {"receiver": filled}


def _told(error: ValidationError, found: dict[str, Any]) -> str:
    """Return the first fault with its key, and the name of the receiver or rule that it is in."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    inside: Any = found
    for part in first["loc"][:2]:
        try:
            inside = inside[part]
        except (KeyError, IndexError, TypeError):
            break
    name = inside.get("name") if isinstance(inside, dict) and len(first["loc"]) > 1 else None
    where = f"{place} (of {name!r})" if isinstance(name, str) and place else place
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
