"""What a run shows where its processes and people have said something: the projection with its edits. Pure.

In: the words of its writers, the primary first, and its edits. Out: values of the edited fields and keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runfold.protocol.values import pack_value
from runfold_coordinator.edits.said import FIELDS, Edit, Place
from runfold_coordinator.ingest.writer_words import WriterWords

#: Says that a config key is not there.
ABSENT: Any = object()


def edited_fields(ranked: Sequence[WriterWords], edits: Iterable[Edit]) -> dict[str, Any]:
    """Return the edited fields with what counts of each; those that nobody edited are left out."""
    found: dict[str, Any] = {}
    for edit in edits:
        for name, value in edit.fields.items():
            said = _said_after(
                edit, ((writer, *_field_of(writer, name)) for writer in ranked), edit.fields_before.get(name)
            )
            found[name] = value if said is None else said[0]
    if "tags" in found:
        found["tags"] = tuple(found["tags"] or ())
    return found


def edited_config(ranked: Sequence[WriterWords], edits: Iterable[Edit]) -> dict[str, Any]:
    """Return the edited config keys with what counts of each: a value, or ABSENT."""
    found: dict[str, Any] = {}
    for edit in edits:
        for key in edit.config_keys:
            said = _said_after(
                edit,
                ((writer, *_config_of(writer, key)) for writer in ranked),
                edit.config_before.get(key, ABSENT),
            )
            found[key] = edit.config.get(key, ABSENT) if said is None else said[0]
    return found


def merge_config(
    config: dict[str, Any], conflicts: dict[str, Any], edited: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config and conflicts with the edited keys; nobody's word is in conflict with an edit."""
    if not edited:
        return config, conflicts
    merged = {key: value for key, value in config.items() if key not in edited}
    merged |= {key: value for key, value in edited.items() if value is not ABSENT}
    return merged, {key: said for key, said in conflicts.items() if key not in edited}


def _said_after(
    edit: Edit, said: Iterable[tuple[WriterWords, Place | None, Any]], before: Any
) -> tuple[Any] | None:
    """Return the foremost writer's word, if any came after the edit.

    What init() says again, as a restarted process does, is no news: it was said before the edit.
    """
    for writer, place, value in said:
        if place is None or not edit.is_before(place, writer.writer_pk, writer.node):
            continue
        if not (place.is_first and _is_same(value, before)):
            return (value,)
    return None


def _field_of(writer: WriterWords, name: str) -> tuple[Place | None, Any]:
    """Return where a writer said a field last, and what."""
    assert name in FIELDS, name
    if name in ("group", "job_type"):
        value = getattr(writer.identity, name, None)
        return (writer.first_place if value else None), value
    value = getattr(writer, name)
    place = writer.field_places.get(name)
    if name == "name" and (place is None or place.is_first):
        return None, value  # made up by init(), as a rule
    if name == "tags" and value is not None:
        value = list(value)
    return (None if value is None else place), value


def _config_of(writer: WriterWords, key: str) -> tuple[Place | None, Any]:
    """Return where a writer said a config key last, and what: ABSENT where it deleted it."""
    place = writer.config_places.get(key)
    if place is None and key in writer.config:
        place = writer.first_place
    return place, writer.config.get(key, ABSENT)


def _is_same(a: Any, b: Any) -> bool:
    if a is ABSENT or b is ABSENT:
        return a is b
    return pack_value(a) == pack_value(b)
