"""Makes lines fit to be kept: text of bytes, without secrets, harmless to a terminal, of bounded length.

In: raw lines of one stream, in order. Out: as many texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runfold.redact import REDACTED, redact_text

#: Longest line that is kept, in characters; the rest is counted.
MAX_LINE = 64 * 1024
#: Read beyond it, so that a secret across the cut is seen whole.
MARGIN = 4096

#: Whatever redact.py looks for holds one of these, in lower case. A test keeps the two together.
_TRIGGERS = (
    "://", "-----begin", "eyj", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-",
    "pk-", "rk-", "sk_", "rk_", "xox", "akia", "asia", "aiza", "wandb_v", "bearer", "apikey", "api_key",
    "api-key", "passw", "secret", "accesstoken", "access_token", "access-token", "authtoken", "auth_token",
    "auth-token",
)  # fmt: skip
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_ESCAPE = re.compile(r"\x1b(?!\[[0-9;:]{0,64}m)")
#: Characters that do something to a terminal, as pictures of themselves.
_PICTURES = {
    **{code: 0x2400 + code for code in range(32) if code not in (0x09, 0x1B)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]")
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
#: A private key that never ends hides no more lines than this.
_LONGEST_KEY_LINES = 200
#: What an incomplete line ends with may be the beginning of a secret.
_LAST_WORD = re.compile(r"(?=[^\s]*[A-Za-z0-9])[A-Za-z0-9_.:=@/+~-]{4,}\Z")


class Cleaner:
    """Cleans the lines of one stream; remembers a private key that runs over several. Not thread-safe."""

    def __init__(self) -> None:
        self._key_lines_left = 0

    def clean(self, lines: Sequence[tuple[bytes | str, int]]) -> list[str]:
        """Return the texts of complete lines, each given with the number of bytes cut off its end before."""
        texts = [_text(raw) for raw, _ in lines]
        joined = "\n".join(texts).lower()
        present = [trigger for trigger in _TRIGGERS if trigger in joined]
        if "\x1b[" in joined:
            # Colours may stand inside what a trigger would find.
            joined = _COLOUR.sub("", joined)
            present = [trigger for trigger in _TRIGGERS if trigger in joined]
        if present or self._key_lines_left:
            texts = [self._redacted(text, present) for text in texts]
        return [_fit(text, cut) for text, (_, cut) in zip(texts, lines, strict=True)]

    def clean_open(self, raw: bytes | str) -> str:
        """Return the text of a line that goes on, less its last word where that may be half a secret."""
        if self._key_lines_left:
            return REDACTED
        text = redact_text(_COLOUR.sub("", _text(raw)))
        return _fit(_LAST_WORD.sub("", text), 0)

    def _redacted(self, text: str, present: Sequence[str]) -> str:
        if self._key_lines_left:
            self._key_lines_left = 0 if _KEY_ENDS.search(text) else self._key_lines_left - 1
            return REDACTED
        plain = _COLOUR.sub("", text) if "\x1b" in text else text
        lower = plain.lower()
        if not any(trigger in lower for trigger in present):
            return text
        begun = _KEY_BEGINS.search(plain)
        if begun is not None and not _KEY_ENDS.search(plain, begun.end()):
            self._key_lines_left = _LONGEST_KEY_LINES
        redacted = redact_text(plain)
        return text if redacted == plain else redacted


def _text(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else raw.decode("utf-8", "replace")


def _fit(text: str, cut_bytes: int) -> str:
    if len(text) > MAX_LINE:
        cut_bytes += len(text) - MAX_LINE
        text = text[:MAX_LINE]
    if _CONTROLS.search(text) or "\x1b" in text:
        text = _ESCAPE.sub("\N{SYMBOL FOR ESCAPE}", text.translate(_PICTURES))
    if cut_bytes:
        text += f" [... {cut_bytes:,} bytes of this line not kept ...]"
    return text
