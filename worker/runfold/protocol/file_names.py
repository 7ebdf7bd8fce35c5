"""Names of files in runs and artifacts: what is refused, and what would be dangerous to write somewhere.

A name is text in a database and in a manifest; blobs lie under their digest. Only who downloads makes a path
of it, by `runfold.safe_path`. What means another place on any system is refused, so that a name
is good everywhere.
"""

from __future__ import annotations

import re
import unicodedata

from runfold.protocol.errors import ProtocolError

#: One name, UTF-8.
MAX_NAME_BYTES = 1024
#: One part of it, UTF-8: the limit of the usual file systems.
MAX_PART_BYTES = 255
#: Parts of one name.
MAX_PARTS = 64
#: What makes text read in another order than it is written: a name must look like what it is.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Device names of Windows, with or without an extension.
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$")
_DRIVE = re.compile(r"^[A-Za-z]:")
DIGEST = re.compile(r"[0-9a-f]{64}")


class FileNameError(ProtocolError):
    """A name that no file of a run or an artifact may have; `complaint` says why, without the name."""

    def __init__(self, name: str, complaint: str) -> None:
        super().__init__(f"{_shown(name)} is no name for a file: {complaint}", field="name")
        self.complaint = complaint


def check_file_name(name: str) -> str:
    """Return the name, parts separated by single "/", if a file may have it.

    Raises:
        FileNameError: It is empty, absolute, too long, climbs (".."), or holds a backslash, a control
            character, a drive, or something that another system takes for one of these.
    """
    return _checked(name, _complaint(name))


def fold(name: str) -> str:
    """Return what two names share that are one file on a system that ignores case or Unicode forms."""
    return unicodedata.normalize("NFKC", name).casefold()


def check_windows_name(name: str) -> str:
    """Return the name if Windows can keep a file of it: `safe_path` asks there.

    Raises:
        FileNameError: A device name, a character that it reserves, a trailing space or dot.
    """
    return _checked(check_file_name(name), _complaint_on_windows(name))


def is_digest(text: str) -> bool:
    """Return whether `text` is a SHA-256 in lower-case hex, and so safe as a file's name."""
    return DIGEST.fullmatch(text) is not None


def _checked(name: str, complaint: str | None) -> str:
    if complaint:
        raise FileNameError(name, complaint)
    return name


def _complaint(name: str) -> str | None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is no Unicode text"
    if not name:
        return "it is empty"
    if size > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if any(unicodedata.category(char) in ("Cc", "Cs") or char in _BIDI for char in name):
        return "it holds control characters"
    # What NFKC makes of a full-width dot or slash is what some file systems make of it too.
    for form in {name, unicodedata.normalize("NFKC", name)}:
        if "\\" in form:
            return "a backslash separates folders on some systems: use /"
        if form.startswith("/") or _DRIVE.match(form):
            return "it is absolute"
        parts = form.split("/")
        if len(parts) > MAX_PARTS:
            return f"it has more than {MAX_PARTS} folders"
        for part in parts:
            if part in ("", ".", ".."):
                return f"a part of it is {part!r}"
            if len(part.encode()) > MAX_PART_BYTES:
                return f"a part of it is longer than {MAX_PART_BYTES} bytes"
    return None


def _complaint_on_windows(name: str) -> str | None:
    for part in name.split("/"):
        if _RESERVED.match(part) or part != part.rstrip(" .") or set(part) & set('<>:"|?*'):
            return f"Windows can't keep {part!r}"
    return None


def _shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 100 else text[:97] + "..."
