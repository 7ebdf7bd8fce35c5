"""Bodies of requests that change runs: decoded, checked field by field, and turned into a Change. Pure.

In: bytes and their media type (JSON, or msgpack for exact values). Out: what is asked for, or an error that
names the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runfold.protocol.errors import LimitError, ProtocolError
from runfold.protocol.limits import MAX_DEPTH
from runfold.protocol.records import SummaryRecord
from runfold.protocol.values import check_tree, pack_value, unpack_value
from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.edits.changes import FIRST_STATES, TRANSITIONS, Change, clean_change

#: Longest name, group and job type, and longest notes, in characters.
MAX_NAME_CHARS = 1024
MAX_NOTES_CHARS = 100_000
MAX_TAG_CHARS = 64
#: Most tags of a run, and most keys of one request.
MAX_TAGS = 1000
MAX_KEYS = 10_000
MAX_KEY_CHARS = 4096
#: What W&B and runfold keep for themselves in a config.
RESERVED_KEYS = frozenset({"_wandb"})
#: Longest id of a run, entity and project, in characters, and what they may not hold, as W&B has it.
MAX_ID_CHARS = 128
BAD_ID_CHARS = frozenset("/\\#?%:")

_FIELDS = ("name", "display_name", "notes", "tags", "add_tags", "remove_tags", "group", "job_type")
_KNOWN = (*_FIELDS, "config", "summary", "state", "by")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants: a change, a state or None, and who asks by their own word."""

    change: Change
    state: str | None
    by: str


def decode_body(body: bytes, media_type: str) -> dict[str, Any]:
    """Return the map of a body.

    Raises:
        BadRequestError: It is none.
    """
    try:
        found = unpack_value(body) if "msgpack" in media_type else json.loads(body or b"{}")
    except (ProtocolError, ValueError, RecursionError) as error:
        raise BadRequestError(f"the body can't be decoded: {error}", field="body") from error
    if not isinstance(found, dict):
        raise BadRequestError("the body is no object", field="body")
    return found


def parse_change(body: Mapping[str, Any]) -> Asked:
    """Return what a PATCH of a run asks for.

    Raises:
        BadRequestError: A field is unknown or of a wrong type; it is named.
    """
    _check_known(body, _KNOWN)
    if "name" in body and "display_name" in body:
        raise BadRequestError("name and display_name are the same field", field="display_name")
    fields: dict[str, Any] = {}
    for said, name in (("name", "name"), ("display_name", "name")):
        if said in body:
            fields[name] = _text(said, body[said], MAX_NAME_CHARS)
            if not fields[name]:
                raise BadRequestError("a name has at least one character", field=said)
    for name, most in (("notes", MAX_NOTES_CHARS), ("group", MAX_NAME_CHARS), ("job_type", MAX_NAME_CHARS)):
        if name in body:
            fields[name] = _text(name, body[name], most) if body[name] is not None else None
            fields[name] = fields[name] or None if name != "notes" else fields[name]
    if "tags" in body:
        fields["tags"] = list(_tags("tags", body["tags"]))
    change = Change(
        fields=fields,
        add_tags=_tags("add_tags", body.get("add_tags", [])),
        remove_tags=_tags("remove_tags", body.get("remove_tags", [])),
        **_config(body.get("config", {})),
        summary=_summary(body.get("summary", [])),
    )
    state = body.get("state")
    if state is not None and (not isinstance(state, str) or state not in TRANSITIONS):
        raise BadRequestError(
            f"state is {_brief(state)}; it can be set to {' or '.join(TRANSITIONS)}", field="state"
        )
    return Asked(clean_change(change), state, _text("by", body.get("by", ""), MAX_NAME_CHARS))


def parse_new_run(body: Mapping[str, Any]) -> tuple[str, str, str, str, Asked]:
    """Return (entity, project, run id, state, what else is said) of a run that is to be made.

    Raises:
        BadRequestError: A field is missing, unknown or of a wrong type; it is named.
    """
    entity, project, run_id = (checked_id(name, body.get(name)) for name in ("entity", "project", "run_id"))
    state = body.get("state", FIRST_STATES[0])
    if state not in FIRST_STATES:
        raise BadRequestError(
            f"state is {_brief(state)}; a new run is {' or '.join(FIRST_STATES)}", field="state"
        )
    rest = {k: v for k, v in body.items() if k not in ("entity", "project", "run_id", "state")}
    return entity, project, run_id, state, parse_change(rest)


def checked_id(name: str, value: Any) -> str:
    """Return an id of a run, an entity or a project.

    Raises:
        BadRequestError: It is none that a run could have.
    """
    text = _text(name, value, MAX_ID_CHARS)
    if not text.strip() or text != text.strip() or text in (".", "..") or text.startswith("_nodes"):
        raise BadRequestError(f"{name} {_brief(value)} can't be used", field=name)
    if BAD_ID_CHARS & set(text) or not text.isprintable():
        raise BadRequestError(
            f"{name} {_brief(value)} has a character that it may not have",
            field=name,
            hint="none of " + " ".join(sorted(BAD_ID_CHARS)),
        )
    return text


def _check_known(body: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = next((name for name in body if name not in known), None)
    if unknown is not None:
        raise BadRequestError(
            f"unknown field {_brief(unknown)}", field=str(unknown)[:200], hint="fields: " + ", ".join(known)
        )


def _text(name: str, value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise BadRequestError(f"{name} is {_brief(value)}; it should be a text", field=name)
    if len(value) > most:
        raise BadRequestError(f"{name} has {len(value)} characters", field=name, limit=most)
    return value


def _tags(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadRequestError(f"{name} is {_brief(value)}; it should be a list of texts", field=name)
    if len(value) > MAX_TAGS:
        raise BadRequestError(f"{name} holds {len(value)} tags", field=name, limit=MAX_TAGS)
    for tag in value:
        if not isinstance(tag, str) or not 1 <= len(tag) <= MAX_TAG_CHARS:
            raise BadRequestError(
                f"{name}: {_brief(tag)} is no tag", field=name, limit=MAX_TAG_CHARS, hint="1 to 64 characters"
            )
    return tuple(dict.fromkeys(value))


def _config(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise BadRequestError('config is {"set": {...}, "delete": [...]}', field="config")
    unknown = next((name for name in said if name not in ("set", "delete")), None)
    if unknown is not None:
        raise BadRequestError(
            f"config.{unknown}: config is " + '{"set": {...}, "delete": [...]}',
            field=f"config.{unknown}"[:200],
        )
    values, deleted = said.get("set", {}), said.get("delete", [])
    if not isinstance(values, dict):
        raise BadRequestError("config.set is an object of keys and values", field="config.set")
    if not isinstance(deleted, list) or not all(isinstance(key, str) for key in deleted):
        raise BadRequestError("config.delete is a list of keys", field="config.delete")
    if len(values) + len(deleted) > MAX_KEYS:
        raise BadRequestError("config has too many keys", field="config", limit=MAX_KEYS)
    for key in (*values, *deleted):
        if not isinstance(key, str) or len(key) > MAX_KEY_CHARS or key in RESERVED_KEYS:
            raise BadRequestError(f"config key {_brief(key)} can't be changed", field="config")
        if key in values and key in deleted:
            raise BadRequestError(f"config key {_brief(key)} is both set and deleted", field="config.delete")
    for key, value in values.items():
        _check_value(f"config.{key}", value)
    return {"config": values, "config_deleted": tuple(dict.fromkeys(deleted))}


def _summary(said: Any) -> tuple[Any, ...]:
    form = 'summary is a list of ["set", path, value] and ["del", path]'
    if not isinstance(said, list):
        raise BadRequestError(form, field="summary")
    if len(said) > MAX_KEYS:
        raise BadRequestError("summary has too many changes", field="summary", limit=MAX_KEYS)
    for change in said:
        if isinstance(change, list) and len(change) == 3:
            _check_value(f"summary.{change[1]}", change[2])
    try:
        changes = SummaryRecord.unpack(pack_value(said)).changes
    except (ProtocolError, TypeError) as error:
        raise BadRequestError(f"{form}: {error}", field="summary") from error
    # Of several changes of one place the last one counts.
    latest = {change[1]: change for change in changes}
    return tuple(change for change in changes if latest[change[1]] is change)


def _check_value(name: str, value: Any) -> None:
    try:
        check_tree(value, max_depth=MAX_DEPTH - 4, max_elements=1_000_000)
    except (LimitError, TypeError) as error:
        raise BadRequestError(f"{name[:200]}: {error}", field=name[:200]) from error


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
