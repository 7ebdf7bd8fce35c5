"""Keeps secrets out of what leaves the process: values by their key, texts by their look."""

from __future__ import annotations

import functools
import re
from typing import Any

REDACTED = "[redacted]"

#: Words that make a key's value a secret when they are the whole key or its last words.
_SECRET_WORDS = frozenset(
    {
        "password",
        "passwd",
        "passphrase",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "apikey",
        "authorization",
    }
)
#: Two last words that do.
_SECRET_PAIRS = frozenset(
    {
        ("api", "key"),
        ("access", "key"),
        ("secret", "key"),
        ("private", "key"),
        ("signing", "key"),
        ("encryption", "key"),
        ("account", "key"),
        ("master", "key"),
        ("client", "secret"),
        ("connection", "string"),
    }
)
#: What may stand before "token" in the name of a credential. Alone, "token" may be "pad_token" or
#: "cls_token".
_TOKEN_OWNERS = frozenset(
    {"access", "api", "auth", "bearer", "bot", "csrf", "github", "gitlab", "hf", "hub", "huggingface", "id",
     "oauth",
     "refresh", "secret", "security", "service", "session", "slack", "user", "wandb", "gh", "pat", "jwt"}
)  # fmt: skip
#: A token that is part of a vocabulary, as configs of language models name them: "<|user|>", "[CLS]", "</s>".
_VOCABULARY = re.compile(r"^(?:<.*>|\[.*\]|\S{0,11}|.*\s.*)$", re.DOTALL)
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


@functools.cache  # compiled when first needed: an import should not pay for it
def _texts() -> tuple[tuple[re.Pattern[str], str], ...]:
    return (
        # user:password@ in a URL: the userinfo goes, the rest tells where it went wrong.
        (
            re.compile(r"(?P<keep>\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://)[^\s/@:'\"]*:[^\s/@'\"]+@"),
            r"\g<keep>" + REDACTED + "@",
        ),
        (
            re.compile(r"(?P<keep>\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://)[^\s/@:'\"]{16,}@"),
            r"\g<keep>" + REDACTED + "@",
        ),
        (
            re.compile(
                r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
            ),
            REDACTED,
        ),
        (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"), REDACTED),
        (
            re.compile(
                r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})"
            ),
            REDACTED,
        ),
        (re.compile(r"\bhf_[A-Za-z0-9]{20,}"), REDACTED),
        (
            re.compile(r"\b(?:sk|pk|rk)-(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{20,}"),
            REDACTED,
        ),
        (re.compile(r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"), REDACTED),
        (re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), REDACTED),
        (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
        (re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"), REDACTED),
        # The signature in a URL that was signed for somebody, as object stores have it.
        (
            re.compile(
                r"(?P<keep>[?&](?:X-(?:Amz|Goog)-(?:Signature|Security-Token|Credential)|Signature|sig|token)=)"
                r"[^\s&#\"']{8,}",
                re.IGNORECASE,
            ),
            r"\g<keep>" + REDACTED,
        ),
        (re.compile(r"\bwandb_v\d+_[A-Za-z0-9_]{20,}"), REDACTED),
        (re.compile(r"(?P<keep>\b[Bb]earer\s+)[A-Za-z0-9._~+/-]{16,}=*"), r"\g<keep>" + REDACTED),
        (
            re.compile(
                r"(?P<keep>(?:api[_-]?key|apikey|password|passwd|client[_-]?secret|secret[_-]?(?:access[_-]?)?key|access[_-]?token"
                r"|auth[_-]?token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&)}\]]{4,}",
                re.IGNORECASE,
            ),
            r"\g<keep>" + REDACTED,
        ),
    )


def is_secret_key(key: str) -> bool:
    """Say whether a config key names a secret: `db_password`, `openaiApiKey`; not `num_memory_tokens`."""
    words = [word.lower() for word in _WORDS.findall(key)]
    if not words:
        return False
    if words[-1] in _SECRET_WORDS:
        return True
    if len(words) >= 2 and tuple(words[-2:]) in _SECRET_PAIRS:
        return True
    if words[-1] == "token":
        return len(words) == 1 or words[-2] in _TOKEN_OWNERS
    return False


def redact_text(text: str) -> str:
    """Return `text` with everything that looks like a credential replaced."""
    for pattern, replacement in _texts():
        text = pattern.sub(replacement, text)
    return text


def redact_value(value: Any, key: str = "") -> Any:
    """Return a config value without secrets. `value` is plain (dict, list, str, number), and not changed."""
    if isinstance(value, str):
        if value and is_secret_key(key) and not (key.lower().endswith("token") and _VOCABULARY.match(value)):
            return REDACTED
        return redact_text(value)
    if isinstance(value, dict):
        return {
            name: redact_value(item, name if isinstance(name, str) else "") for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact_value(item, key) for item in value]
    return value
