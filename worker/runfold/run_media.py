"""RunMedia: values of log() that are files. The row is said at once, its media follow. Part of Run.

In: a row that holds media, from the recorder. Out: files left to the agent, then the rest of that row.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runfold import terminal
from runfold.log_values import Cell, flatten_leaf
from runfold.media.content import Encoded, link_or_copy
from runfold.media.encoder import encoder
from runfold.media.media import Media, MediaList, is_batch
from runfold.media.media_row import MediaRow
from runfold.media.names import media_name
from runfold.protocol.charts import CustomChartSpec
from runfold.protocol.errors import LimitError
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import AlertRecord, RecordKind, SummaryRecord
from runfold.redact import redact_text
from runfold.run_attributes import RunAttributes
from runfold.run_files import RunFiles
from runfold.run_history import RunHistory

#: At least so long media may still be encoded when the run ends, whatever its finish_timeout.
_LEAST_DRAIN_S = 60.0
_WARN_EVERY_S = 60.0
#: Values that one warning names.
_NAMED_AT_ONCE = 5


class RunMedia(RunHistory, RunAttributes, RunFiles):
    """Who reads what was logged, writes the summary or ends the run waits for its media first."""

    #: Values too large for their rows: how many are said, and when that was.
    _left_out_told = 0
    _left_out_told_mono_s = -_WARN_EVERY_S

    def _take_media(self, row: MediaRow) -> None:
        """Called by the recorder, inside of an append."""
        encoder.put(lambda: self._say_media(row), owner=self)

    def _say_media(self, row: MediaRow) -> None:
        cells: list[tuple[KeyPath, list[Cell]]] = []
        for path, value in row.media:
            try:
                said = self._described(value, path[-1], row.number)
                cells.append((path, flatten_leaf(path, said)))
            except Exception as error:  # noqa: BLE001  # one value that can't be kept costs no other
                self._tell_lost_media(".".join(path), row.step, error)
        self._recorder.append_media(row, cells)

    def _described(self, value: Media | MediaList, key: str, number: int | str) -> Any:
        if isinstance(value, Media):
            return self._store_one(value, key, number)
        jsons = [self._store_one(item, key, number) for item in value]
        return type(value[0]).describe_list(value, jsons) if is_batch(value) else jsons

    def _store_one(self, value: Media, key: str, number: int | str) -> dict[str, Any]:
        stored: dict[str, Any] | None = value.stored.get(self)
        if stored is None:
            stored = value.stored[self] = value.store(self, key, number)
        return stored

    def _store_file(self, value: Media, key: str, number: int | str) -> dict[str, Any]:
        value.hold()
        encoded = value.content.encoded()
        name = media_name(value.FOLDER, key, number, encoded.sha256, value.content.suffix)
        self._send_media(name, encoded)
        described = value.describe(name, encoded, lambda part: self._store_one(part, key, number))
        self._name_classes(value, key)
        return described

    def _send_media(self, name: str, encoded: Encoded) -> None:
        from runfold.uploads.jobs import new_id

        job_id = new_id()
        staging = self._outbox.staging(job_id)
        staging.mkdir(mode=0o700, parents=True)
        staged = staging / Path(name).name
        link_or_copy(encoded.path, staged)
        self._send_file(
            name,
            staged,
            sha256=encoded.sha256,
            size=encoded.size,
            is_ours=True,
            what="media",
            job_id=job_id,
        )

    def _name_classes(self, value: Media, key: str) -> None:
        labels = value.class_labels()
        if labels is None:
            return
        kind, layer, names = labels
        place = f"{key}_wandb_delimeter_{layer}"
        entry = {"type": kind, "key": place, "value": {str(number): name for number, name in names.items()}}
        reserved = self._config._as_dict().get("_wandb", {})  # noqa: SLF001  # ours, with the reserved key
        there: Mapping[str, Any] = reserved.get(kind, {})
        if there.get(place) != entry:
            self._config._pin(kind, {**there, place: entry})  # noqa: SLF001  # ours

    def _tell_chart(self, spec: CustomChartSpec) -> None:
        """Say in the config how a table is drawn."""
        reserved = self._config._as_dict().get("_wandb", {})  # noqa: SLF001  # ours, with the reserved key
        there: Mapping[str, Any] = reserved.get("visualize", {})
        if there.get(spec.key) != spec.config_value:
            self._config._pin("visualize", {**there, spec.key: spec.config_value})  # noqa: SLF001  # ours

    def _tell_lost_media(self, key: str, step: int, error: BaseException) -> None:
        self._tell_lost(f"{key} of step {step}", error)

    def _tell_lost(self, what: str, error: BaseException) -> None:
        """Say that something of a row is lost, here and to people who look at the run."""
        reason = redact_text(f"{type(error).__name__}: {error}")
        text = f"{what} could not be kept: {reason}"
        terminal.warn_at_most_every(
            _WARN_EVERY_S, "media", f"run {self._recorder.run_id}: {text}. Its row stays without it"
        )
        record = AlertRecord("Media lost", text, "WARN", _WARN_EVERY_S)
        self._recorder.append(RecordKind.ALERT, record.pack())

    def _tell_left_out(self, step: int, left_out: Sequence[tuple[str, LimitError]]) -> None:
        """Say which values were too large for their row; those of a minute after it are only counted."""
        now = time.monotonic()
        if now - self._left_out_told_mono_s < _WARN_EVERY_S:
            return
        self._left_out_told_mono_s = now
        named = "; ".join(f"{key}: {error}" for key, error in left_out[:_NAMED_AT_ONCE])
        more = len(left_out) - _NAMED_AT_ONCE
        self._warn_left_out(f"of step {step}: {named}{f'; and {more} more' if more > 0 else ''}")

    def _warn_left_out(self, text: str) -> None:
        self._left_out_told = self._recorder.left_out_count
        text = redact_text(f"too large, and left out of the row {text}")
        terminal.warn(f"run {self._recorder.run_id}: {text}. Everything else is kept")
        record = AlertRecord("Value left out", text, "WARN", _WARN_EVERY_S)
        self._recorder.append(RecordKind.ALERT, record.pack())

    def _store_media(self, value: Media, key: str = "media", number: int | str = "summary") -> dict[str, Any]:
        """Store a value here and now; return its JSON."""
        self._recorder.check_active("log")
        return self._store_one(value, key, number)

    # -- who waits --

    def _await_media(self, timeout_s: float) -> int:
        """Encode here what this run has not said yet; return how many rows still lack media."""
        return encoder.drain(self, time.monotonic() + timeout_s)

    def _live_fold(self) -> Any:
        self._await_media(_LEAST_DRAIN_S)
        return super()._live_fold()

    def _record_summary(self, record: SummaryRecord) -> None:
        self._recorder.check_active("_summary_update_callback")
        self._await_media(_LEAST_DRAIN_S)
        changes = [
            (change[0], change[1], self._in_summary(change[1], change[2])) if len(change) == 3 else change
            for change in record.changes
        ]
        super()._record_summary(SummaryRecord(tuple(changes)))

    def _in_summary(self, path: KeyPath, value: Any) -> Any:
        if isinstance(value, (Media, MediaList)):
            try:
                return self._described(value, ".".join(path), "summary")
            except OSError as error:  # a full disk; what it would be is said, as of one in a row
                self._tell_lost_media(".".join(path), self._recorder.step, error)
                return {"_type": value.TYPE} if isinstance(value, Media) else None
        if isinstance(value, dict):
            return {key: self._in_summary((*path, key), item) for key, item in value.items()}
        return value

    def _before_end(self) -> None:
        super()._before_end()
        count = self._recorder.left_out_count
        if count > self._left_out_told:
            self._warn_left_out(f"they were logged in: {count} values of this process in all")
        left = self._await_media(max(self._settings.finish_timeout, _LEAST_DRAIN_S))
        if left and encoder.drop(self):
            terminal.warn(
                f"run {self._recorder.run_id}: the media of {left} rows were not encoded in time and are "
                "lost; the rows say of which kind they were"
            )
