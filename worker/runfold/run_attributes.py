"""RunAttributes: what a script may say of its run at any time: name, notes, tags, config. Part of Run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runfold import config_values, terminal
from runfold.config import Config, ConfigStatic
from runfold.errors import ValidationError
from runfold.naming import readable_name
from runfold.protocol.records import ConfigRecord, RecordKind, RunRecord
from runfold.redact import redact_value
from runfold.run_part import RunPart
from runfold.setting_checks import check_tags


class RunAttributes(RunPart):
    """Every change is a record: of several processes the later one counts."""

    _name: str | None
    _notes: str | None
    _tags: tuple[str, ...]
    _config: Config

    @property
    def name(self) -> str | None:
        """The display name; may be set."""
        return self._name

    @name.setter
    def name(self, name: str | None) -> None:
        """Set it; None: the one that is made from the run's id."""
        self._recorder.check_active("name")
        self._name = readable_name(self._recorder.run_id) if name is None else _text("run_name", name)
        self._recorder.append(RecordKind.RUN, RunRecord(name=self._name).pack())

    @property
    def notes(self) -> str | None:
        """Free text, Markdown; may be set."""
        return self._notes

    @notes.setter
    def notes(self, notes: str | None) -> None:
        """Set them; None: there are none any more."""
        self._recorder.check_active("notes")
        self._notes = None if notes is None else _text("run_notes", notes)
        self._recorder.append(RecordKind.RUN, RunRecord(notes=self._notes or "").pack())

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags; may be set from any iterable. A tag that is empty or longer than 64 changes nothing."""
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._recorder.check_active("tags")
        try:
            self._tags = check_tags("run_tags", tuple(tags))
        except ValidationError as error:
            terminal.warn(f"tags were not changed: {str(error).splitlines()[-1].strip()}")
            return
        self._recorder.append(RecordKind.RUN, RunRecord(tags=self._tags).pack())

    @property
    def config(self) -> Config:
        """The settings of the training, by name."""
        return self._config

    @property
    def config_static(self) -> ConfigStatic:
        """A read-only copy of `config` as it is now."""
        return ConfigStatic(self._config)

    def pin_config_keys(self, keys: Iterable[str] = ()) -> None:
        """Say which config keys are to be shown first; a later call replaces an earlier one."""
        self._recorder.check_active("pin_config_keys")
        self._config._pin("pinned_keys", config_values.convert(list(keys)))  # noqa: SLF001  # ours, the reserved key

    def _label(self, *_: Any, **__: Any) -> None:
        """Do nothing: by this name libraries tell W&B of themselves."""

    def _record_config(self, changed: dict[str, Any]) -> None:
        self._recorder.check_active("_config_callback")
        if changed:
            self._recorder.append(RecordKind.CONFIG, ConfigRecord(set=redact_value(changed)).pack())


def _text(setting: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError(setting, "Input should be a valid string", value)
    return value
