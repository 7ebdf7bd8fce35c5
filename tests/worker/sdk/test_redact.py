"""Secrets go, everything that only looks a little like one stays."""

from __future__ import annotations

from typing import Any

import pytest

from runfold.redact import REDACTED, is_secret_key, redact_text, redact_value

GH = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    "key",
    [
        *("api_key", "apiKey", "APIKEY", "openai_api_key", "OPENAI-API-KEY", "aws_secret_access_key"),
        *("password", "db_password", "dbPassword", "passwd", "secret", "client_secret", "clientSecret"),
        *(
            "hf_token",
            "HF_TOKEN",
            "access_token",
            "githubToken",
            "auth-token",
            "private_key",
            "authorization",
        ),
        *("connection_string", "credentials"),
    ],
)
def test_keys_of_secrets(key: str) -> None:
    assert is_secret_key(key)
    assert redact_value({key: "abcDEF123456"}) == {key: REDACTED}


@pytest.mark.parametrize(
    "key",
    [
        *(
            "use_cls_token",
            "num_memory_tokens",
            "max_tokens",
            "tokenizer",
            "pad_token",
            "eos_token",
            "bos_token",
        ),
        *("token_dim", "n_token", "cls_token", "mask_token", "tokens_per_second", "key", "keys", "key_dim"),
        *(
            "primary_key",
            "sort_key",
            "num_keys",
            "secretary",
            "password_length",
            "monkey",
            "author",
            "keyboard",
        ),
        *("attention_key", "query_key", "lr", "secret_sharing_rounds", "passthrough", "token_type_ids"),
    ],
)
def test_keys_that_only_sound_like_it(key: str) -> None:
    assert not is_secret_key(key)
    assert redact_value({key: "plain value 17"}) == {key: "plain value 17"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_cls_token", True),
        ("num_memory_tokens", 4),
        ("api_key", None),
        ("api_key", ""),
        ("user_token", "<|user|>"),
        ("bot_token", "[BOT]"),
        ("token", "the"),
        ("id_token", 17),
    ],
)
def test_values_that_are_no_secret(key: str, value: Any) -> None:
    assert redact_value({key: value}) == {key: value}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("redis://user:pw@host:6379/0", f"redis://{REDACTED}@host:6379/0"),
        ("postgresql+psycopg://me:p%40ss@db/x", f"postgresql+psycopg://{REDACTED}@db/x"),
        ("redis://:pw@host", f"redis://{REDACTED}@host"),
        (f"https://{GH}@github.com/a/b", f"https://{REDACTED}@github.com/a/b"),
        (f"token is {GH}.", f"token is {REDACTED}."),
        (f"Authorization: Bearer {JWT}", f"Authorization: Bearer {REDACTED}"),
        ("hf_" + "aB3" * 10, REDACTED),
        ("sk-proj-" + "aB3_" * 10, REDACTED),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        ("api_key=abcdef123", f"api_key={REDACTED}"),
        ('{"password": "abcdef"}', f'{{"password": "{REDACTED}"}}'),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", REDACTED),
    ],
)
def test_texts_with_secrets(text: str, kept: str) -> None:
    assert redact_text(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path?x=1",
        "git@github.com:a/b.git",
        "mail someone@example.com at once",
        "sk-learn-random-forest-with-many-trees",
        "hf_hub_download",
        "the api_key parameter",
        "a password is needed",
        'File "train.py", line 3, in <module>\n    model(x, token=True)',
        "s3://bucket/key@v2/path",
        "facebook/opt-125m",
        "ghp_short",
    ],
)
def test_texts_without_secrets(text: str) -> None:
    assert redact_text(text) == text


def test_nested_values() -> None:
    value = {"a": [{"api_key": "abc"}, "redis://u:p@h"], "n": 1, "f": 2.5}
    assert redact_value(value) == {"a": [{"api_key": REDACTED}, f"redis://{REDACTED}@h"], "n": 1, "f": 2.5}
    assert value["a"][0] == {"api_key": "abc"}  # type: ignore[index]  # a list
