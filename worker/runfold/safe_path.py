"""Where to write a file that somebody else named: the only place where such a name becomes a path."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from runfold.protocol.file_names import check_file_name, check_windows_name


def safe_path(root: Path, name: str, *, is_windows: bool = os.name == "nt") -> Path:
    """Return where to write a name below `root`; nothing is opened.

    Raises:
        FileNameError: The name means another place, or can't be kept on this system.
    """
    checked = check_windows_name(name) if is_windows else check_file_name(name)
    return root.joinpath(*PurePosixPath(checked).parts)
