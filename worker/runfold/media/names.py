"""Names of media files, as W&B gives them: <folder>/<key>_<number>_<digest, cut><suffix>. Pure."""

from __future__ import annotations

import hashlib
import re

from runfold.protocol.file_names import MAX_NAME_BYTES, MAX_PART_BYTES, FileNameError, check_file_name

_ODD = re.compile(r"[^A-Za-z0-9_.\-]")
#: Of the digest in a file's name.
DIGEST_CHARS = 20
#: Left of a key that is too long, before a digest of all of it.
_KEPT_CHARS = 60


def media_name(folder: str, key: str, number: int | str, sha256: str, suffix: str) -> str:
    """Return the name of a media file within the run's files.

    Slashes in the key make folders; what would lead elsewhere is replaced by "_", as W&B does. A key that no
    file can be named after is replaced by what is left of it.

    Args:
        key: Under which it was logged: the last part of a nested one.
        number: The step that the process had reached before this call, or "summary".
    """
    ending = f"_{number}_{sha256[:DIGEST_CHARS]}{suffix}"
    parts = [part.replace(".", "_") if part in (".", "..") else part for part in key.split("/") if part]
    for readable in ("/".join(parts), _plain(key)):
        try:
            name = check_file_name(f"{folder}/{readable}{ending}")
        except FileNameError:
            continue
        if len(name.encode()) <= MAX_NAME_BYTES // 2:  # the rest is room for a folder to download into
            return name
    return check_file_name(f"{folder}/{_short(key)}{ending}")


def _plain(key: str) -> str:
    return "/".join(_ODD.sub("_", part)[: MAX_PART_BYTES // 2] for part in key.split("/") if part.strip("."))


def _short(key: str) -> str:
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_ODD.sub('_', key)[:_KEPT_CHARS]}-{digest}"
