"""RunChanges: what of a stored run may be changed, and how that reaches the server. Part of Run.

Attributes are set here, and sent by `update()`; the summary's changes go with them, or by themselves. Only
what was changed is sent: whatever else was said meanwhile, by the run or by others, stays.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from runfold.api.errors import RequestError
from runfold.api.paths import route
from runfold.api.run_document import RunDocument
from runfold.api.run_stop import _me
from runfold.api.summary import Changes, RunSummary
from runfold.config_values import convert
from runfold.errors import ValidationError
from runfold.naming import random_id
from runfold.redact import redact_value
from runfold.setting_checks import check_tags

if TYPE_CHECKING:
    from runfold.api.catalogue import Catalogue

State = Literal["running", "pending"]


class RunChanges(RunDocument):
    """Name, notes, tags, group, job type, config and summary of a run; its state, its end."""

    #: It can be changed.
    read_only = False

    # Not of the class: each run has its own, once something asks for it.
    _said: dict[str, Any]
    _tags: list[str] | None = None
    _tags_before: list[str]
    _config: dict[str, Any] | None = None
    #: As it was when `config` was first asked for: what differs from it was changed here.
    _config_before: dict[str, Any]
    _summary: RunSummary | None = None

    @property
    def name(self) -> str:
        """The display name, the id where there is none; may be set."""
        return self._field("name") or self._id

    @name.setter
    def name(self, name: str) -> None:
        self._say("name", name)

    @property
    def display_name(self) -> str:
        """The same as `name`."""
        return self.name

    @display_name.setter
    def display_name(self, name: str) -> None:
        self._say("name", name)

    @property
    def notes(self) -> str | None:
        """A longer text, Markdown; may be set."""
        return self._field("notes")

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self._say("notes", notes)

    @property
    def description(self) -> str | None:
        """The same as `notes` (an older name of W&B's)."""
        return self.notes

    @description.setter
    def description(self, notes: str | None) -> None:
        self._say("notes", notes)

    @property
    def group(self) -> str | None:
        """The group it belongs to; may be set."""
        return self._field("group")

    @group.setter
    def group(self, group: str | None) -> None:
        self._say("group", group)

    @property
    def job_type(self) -> str | None:
        """What it does in its group; may be set."""
        return self._field("job_type")

    @job_type.setter
    def job_type(self, job_type: str | None) -> None:
        self._say("job_type", job_type)

    @property
    def tags(self) -> list[str]:
        """Its tags, a list that may be changed or set; `update()` sends which were added and removed."""
        if self._tags is None:
            self._tags_before = self._document["tags"]
            self._tags = list(self._tags_before)
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        if isinstance(tags, str):
            raise RequestError("tags is a list of texts", field="tags")
        self.tags[:] = _checked_tags(tags)

    @property
    def config(self) -> dict[str, Any]:
        """The config, a dict that may be changed; keys that begin with "_" are in `rawconfig` only."""
        if self._config is None:
            self._config_before = self._shown_config()
            self._config = copy.deepcopy(self._config_before)
        return self._config

    @property
    def rawconfig(self) -> dict[str, Any]:
        """The whole config, as of loading."""
        config: dict[str, Any] = self._loaded("config")
        return config

    @property
    def json_config(self) -> str:
        """The config as JSON, each value as {"value": ...}, as W&B stores it."""
        hidden = {key: value for key, value in self.rawconfig.items() if key.startswith("_")}
        shown = {key: {"value": value} for key, value in {**hidden, **self.config}.items()}
        return json.dumps(shown, default=str)

    @property
    def summary(self) -> RunSummary:
        """The summary by `define_metric`, over all points, as of loading; may be changed."""
        if self._summary is None:
            self._summary = RunSummary(self._loaded("summary"), self._send_summary)
        return self._summary

    @property
    def summary_metrics(self) -> dict[str, Any]:
        """The summary as a plain dict, as of loading."""
        return dict(self._loaded("summary"))

    def update(self) -> None:
        """Send what was changed: attributes, config, tags and summary. Without changes nothing is sent.

        Of each field and key what was said last counts: this, or what the run's process says later. The
        process itself is told nothing.

        Raises:
            RequestError: (a ValueError) A value is not what it should be; then nothing was changed.
            RunNotFoundError: The run is gone.
        """
        summary = self._summary.changes() if self._summary is not None else []
        body = dict(self._said_fields()) | self._tag_changes() | self._config_changes()
        if summary:
            body["summary"] = summary
        if body:
            self._patch(body, is_whole=True)

    def save(self) -> None:
        """Do as `update()` does."""
        self.update()

    def update_state(self, state: Literal["pending", "failed"]) -> bool:
        """Set the state of a run that has ended to "pending", to be run again; of a pending one to "failed".

        It holds until another process joins the run. Returns True.

        Raises:
            RequestError: (an Error) Only a failed or crashed run can become pending, only a pending one (or
                one made by `create` that never had a process) failed.
        """
        self._patch({"state": state})
        return True

    def delete(self, delete_artifacts: bool = False) -> None:
        """Delete the run: it is in no list any more, and is removed for good some weeks later.

        Until then `runfold undelete` brings it back. Processes of a run that goes on are told nothing; what
        they log is kept, hidden. (`stop()` ends them.)

        Args:
            delete_artifacts: Also delete the artifacts that it logged.
        """
        self._connection.delete(self._route(), {"delete_artifacts": delete_artifacts, "by": _me()})

    @classmethod
    def create(
        cls,
        api: Catalogue,
        run_id: str | None = None,
        project: str | None = None,
        entity: str | None = None,
        state: State = "running",
    ) -> Self:
        """Make a run that has no process yet; `init(id=...)` joins it later. One that is there is returned.

        Args:
            api: The server to make it on.
            run_id: None: a new one.
            project: None: the default project of `api`; likewise `entity`.
            state: "running", or "pending" for one that waits for its turn.

        Raises:
            RequestError: (a ValueError) A name or the state is not what it should be, or the run was deleted.
        """
        body = {
            "entity": entity or api.default_entity,
            "project": project or api.default_project,
            "run_id": run_id or random_id(),
            "state": state,
            "by": _me(),
        }
        return cls(api.connection, api.connection.post(route("runs"), body)["run"])

    def load(self, force: bool = False) -> dict[str, Any]:
        """Return the run's document, read again when `force`; then changes that were not sent are dropped."""
        if force:
            self._drop_changes()
        return super().load(force)

    @staticmethod
    def snake_to_camel(string: str) -> str:
        """Return "display_name" as "displayName" (W&B's helper)."""
        camel = "".join(part.title() for part in string.split("_"))
        return camel[:1].lower() + camel[1:]

    def _drop_changes(self) -> None:
        self.__dict__.pop("_said", None)
        self._tags = self._config = self._summary = None

    def _field(self, name: str) -> str | None:
        value: str | None = self._said_fields().get(name, self._document[name])
        return value

    def _say(self, name: str, value: str | None) -> None:
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name} is a text, not {type(value).__name__}", field=name)
        self._said_fields()[name] = value

    def _said_fields(self) -> dict[str, Any]:
        said: dict[str, Any] = self.__dict__.setdefault("_said", {})
        return said

    def _shown_config(self) -> dict[str, Any]:
        return {key: value for key, value in self.rawconfig.items() if not key.startswith("_")}

    def _tag_changes(self) -> dict[str, list[str]]:
        if self._tags is None:
            return {}
        before, tags = self._tags_before, _checked_tags(self._tags)
        added = [tag for tag in dict.fromkeys(tags) if tag not in before]
        removed = [tag for tag in before if tag not in tags]
        return ({"add_tags": added} if added else {}) | ({"remove_tags": removed} if removed else {})

    def _config_changes(self) -> dict[str, dict[str, Any]]:
        if self._config is None:
            return {}
        before = self._config_before
        now = {str(key): convert(value) for key, value in self._config.items()}
        changed = {key: value for key, value in now.items() if key not in before or before[key] != value}
        # True == 1: types are compared too.
        changed |= {key: now[key] for key in now if key in before and type(before[key]) is not type(now[key])}
        deleted = [key for key in before if key not in now]
        if not changed and not deleted:
            return {}
        return {"config": {"set": redact_value(changed), "delete": deleted}}

    def _send_summary(self, changes: Changes) -> None:
        self._patch({"summary": changes})

    def _patch(self, body: Mapping[str, Any], *, is_whole: bool = False) -> None:
        document = self._connection.patch(self._route(), {**body, "by": _me()})
        summary = self._summary
        self._document = document
        if is_whole:
            self._drop_changes()
        if summary is not None and "summary" in body:
            # Who holds the summary goes on with it.
            summary._forget_changes(body["summary"])  # noqa: SLF001 - it is ours
            self._summary = summary


def _checked_tags(tags: Any) -> tuple[str, ...]:
    try:
        return check_tags("tags", tuple(tags))
    except ValidationError as error:
        raise RequestError(str(error).splitlines()[-1].strip(), field="tags") from error
