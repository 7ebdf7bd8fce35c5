"""What lies in a cache that others may write to: nothing of it is waited for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from runfold.blob_cache import BlobCache


def test_a_pipe_in_the_place_of_an_empty_content_is_none(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"").hexdigest()
    place = tmp_path / "blobs" / sha256[:2] / sha256
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    cache = BlobCache(tmp_path)
    assert not cache.has(sha256, 0)
    cache.put(sha256, b"")
    assert cache.has(sha256, 0)
