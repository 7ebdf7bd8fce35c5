"""Media in artifacts: files in them, and the JSON objects that name these. Out again: the media.

In: an artifact (a draft to write, a version to read). Names are W&B's: `media/images/<20 hex of digest>.png`
for what a medium holds, `<name>.<type>.json` for an object that was added by itself.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from runfold import terminal
from runfold.media.content import Encoded
from runfold.media.media import Media
from runfold.media.names import DIGEST_CHARS

#: `_type` of a stored medium -> where its class is, and what it is made with beside the file's path.
_CLASSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "audio-file": ("runfold.media.audio", "Audio", {}),
    "html-file": ("runfold.media.html", "Html", {"inject": False}),
    "image-file": ("runfold.media.image", "Image", {}),
    "molecule-file": ("runfold.media.molecule", "Molecule", {}),
    "object3D-file": ("runfold.media.object3d", "Object3D", {}),
    "video-file": ("runfold.media.video", "Video", {}),
}
#: One object's JSON that is read whole.
MAX_OBJECT_BYTES = 512 * 1024 * 1024


def media_json(artifact: Any, medium: Media) -> dict[str, Any]:
    """Put a medium's file into a draft; return the JSON object that stands for it there.

    Raises:
        OSError: Its file has vanished, or there is no space for it.
    """
    encoded = medium.content.encoded()
    name = artifact.add_file(
        str(encoded.path), _name(medium, encoded), is_tmp=medium.content.source is None, overwrite=True
    ).path
    return medium.describe(name, encoded, lambda part: media_json(artifact, part))


def _name(medium: Media, encoded: Encoded) -> str:
    """Return a name; of what was made here `add_file` puts the digest into it."""
    source = medium.content.source
    if source is None:
        return f"{medium.FOLDER}/{medium.FOLDER.rpartition('/')[2]}{medium.content.suffix}"
    return f"{medium.FOLDER}/{encoded.sha256[:DIGEST_CHARS]}/{source.name}"


def add_object(artifact: Any, name: str, kind: str, told: dict[str, Any], *, overwrite: bool = False) -> Any:
    """Put a JSON object into a draft as `<name>.<kind>.json`; return its entry.

    Raises:
        ValueError: There is another file of that name.
    """
    full = object_name(name, kind)
    with artifact.new_file(full, mode="w" if overwrite else "x", encoding="utf-8") as file:
        json.dump(told, file, sort_keys=True)
    return artifact.manifest.entries[full]


def object_name(name: str, kind: str) -> str:
    """Return the name of an object's file."""
    ending = f".{kind}.json"
    return name if name.endswith(ending) else name + ending


def read_json(artifact: Any, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of an artifact.

    Raises:
        KeyError: There is no such file. ValueError: It holds something else, or too much.
    """
    from pathlib import Path

    entry = artifact.get_entry(name)
    if (entry.size or 0) > MAX_OBJECT_BYTES:
        raise ValueError(f"{name} has {entry.size:,} bytes: at most {MAX_OBJECT_BYTES:,} are read whole")
    try:
        found = json.loads(Path(entry.download()).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds no object")  # noqa: TRY004  # it is the content that is wrong
    return found


def media_of(artifact: Any, told: dict[str, Any]) -> Any:
    """Return the medium that a JSON object in an artifact stands for, or the object if it stands for none."""
    if told.get("_type") == "classes" and isinstance(told.get("class_set"), list):
        from runfold.media.classes import Classes

        return Classes(told["class_set"])
    place = _CLASSES.get(str(told.get("_type")))
    path = told.get("path")
    if place is None or not isinstance(path, str):
        return told
    module, name, options = place
    captioned = {"caption": told["caption"]} if told.get("caption") is not None else {}
    return getattr(importlib.import_module(module), name)(
        artifact.get_entry(path).download(), **options, **captioned
    )


def add_to(artifact: Any, thing: Any, name: str, *, overwrite: bool) -> Any:
    """Put a medium or a table into a draft, under a name of its own; return the entry of its JSON file.

    What is there already under the name stays, as in W&B; with `overwrite` it is replaced.

    Raises:
        TypeError: It is neither.
    """
    from runfold.media.captured_table import CapturedTable
    from runfold.media.classes import Classes
    from runfold.media.joined_table import JoinedTable, PartitionedTable
    from runfold.media.table import Table
    from runfold.media.table_artifact import TABLE, write_table

    if not isinstance(thing, (Classes, JoinedTable, Media, PartitionedTable, Table)):
        raise TypeError(
            f"Found object of type {thing.__class__}, expected one of: tables, media, Classes; "
            "everything else by add_file() or new_file()"
        )
    entry = object_name(name, TABLE if isinstance(thing, Table) else thing.TYPE)
    known = next((each for each, added in artifact._added_objects.items() if added is thing), None)  # noqa: SLF001  # one product
    if known not in (None, entry) and known in artifact.manifest.entries and not overwrite:
        terminal.warn_once(f"what is {known} in artifact {artifact.name} already is not added as {entry} too")
        return artifact.manifest.entries[known]
    if not overwrite and entry in artifact.manifest.entries:
        if artifact._added_objects.get(entry) is not thing:  # noqa: SLF001  # one product
            terminal.warn_once(f"artifact {artifact.name} has a {entry} already, which stays: see overwrite=")
        return artifact.manifest.entries[entry]
    if isinstance(thing, Table):
        write_table(artifact, CapturedTable.of(thing), entry, overwrite=overwrite)
    elif isinstance(thing, (JoinedTable, PartitionedTable)):
        add_object(artifact, name, thing.TYPE, thing.to_artifact_json(artifact), overwrite=overwrite)
    elif isinstance(thing, Classes):
        add_object(artifact, name, thing.TYPE, thing.to_json(), overwrite=overwrite)
    else:
        thing.hold()
        add_object(artifact, name, thing.TYPE, media_json(artifact, thing), overwrite=overwrite)
    artifact._added_objects[entry] = thing  # noqa: SLF001  # same
    return artifact.manifest.entries[entry]


def read_from(artifact: Any, name: str) -> Any:
    """Return the medium or table that was added under a name; None if there is none."""
    from runfold.media.classes import Classes
    from runfold.media.joined_table import JoinedTable, PartitionedTable
    from runfold.media.table_artifact import TABLE, read_table

    readers = {
        TABLE: read_table,
        JoinedTable.TYPE: JoinedTable.read,
        PartitionedTable.TYPE: PartitionedTable.read,
    }
    entries = artifact.manifest.entries
    for kind in (*readers, Classes.TYPE, *_CLASSES):
        entry = object_name(name, kind)
        if entry in entries:
            read = readers.get(kind)
            return media_of(artifact, read_json(artifact, entry)) if read is None else read(artifact, entry)
    return None
