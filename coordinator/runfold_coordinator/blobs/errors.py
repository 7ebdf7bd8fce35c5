"""What the blob store raises, by reaction.

BlobError
├── BlobMissingError       nobody has sent it, or it was damaged: send it
├── BlobMismatchError      what was sent is not what it was said to be: it is forgotten, send it anew
├── UploadOffsetError      go on from another offset; also when somebody else is sending the same now
├── BlobSpaceError         no room: free some, then send on
└── BlobUnavailableError   the place of the blobs does not answer: try again
"""

from __future__ import annotations

import errno


class BlobError(Exception):
    """Base of what the blob store raises."""


class BlobMissingError(BlobError):
    """There is no whole blob with this digest."""

    def __init__(self, digest: str, *, is_damaged: bool = False) -> None:
        self.digest = digest
        self.is_damaged = is_damaged
        what = "was damaged on its disk: send it again" if is_damaged else "is not here"
        super().__init__(f"blob {digest} {what}")


class BlobMismatchError(BlobError):
    """The bytes that were sent have another digest, or are more than was said."""


class UploadOffsetError(BlobError):
    """The upload goes on at `offset`; `is_busy`: as soon as who sends it now is done."""

    def __init__(self, digest: str, offset: int, *, is_busy: bool = False) -> None:
        self.offset = offset
        self.is_busy = is_busy
        why = "is being sent by somebody else" if is_busy else "is not there yet"
        super().__init__(f"blob {digest} {why}: go on from byte {offset}")


class BlobSpaceError(BlobError):
    """The disk has no room for it, less what the database needs to go on."""


#: What the kernel says where a disk, a quota or a file's limit is full.
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class BlobUnavailableError(BlobError):
    """The object store did not answer, or not as it should."""
