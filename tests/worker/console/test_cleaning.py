"""Secrets, control characters and long lines: what is kept of them."""

from __future__ import annotations

import pytest

from runfold.console.cleaning import _TRIGGERS, MAX_LINE, Cleaner
from runfold.redact import REDACTED, _texts, redact_text

TOKEN = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0"
SECRETS = [
    f"https://user:{TOKEN}@host/path",
    f"https://{TOKEN}@host/path",
    "-----BEGIN RSA PRIVATE KEY-----abc-----END RSA PRIVATE KEY-----",
    f"eyJ{TOKEN}.eyJ{TOKEN}.{TOKEN}",
    f"ghp_{TOKEN}",
    f"github_pat_{TOKEN}",
    f"glpat-{TOKEN}",
    f"hf_{TOKEN}",
    f"sk-{TOKEN}",
    f"pk-{TOKEN}",
    f"rk-{TOKEN}",
    f"sk_live_{TOKEN}",
    f"rk_test_{TOKEN}",
    f"xoxb-{TOKEN}",
    "AKIAABCDEFGHIJKLMNOP",
    "ASIAABCDEFGHIJKLMNOP",
    f"AIza{TOKEN[:35]}",
    f"wandb_v1_{TOKEN}",
    f"Authorization: Bearer {TOKEN}",
    *(
        f"https://host/key?part=1&{name}={TOKEN}"
        for name in ("X-Amz-Signature", "X-Goog-Security-Token", "X-Amz-Credential", "Signature", "sig", "token")
    ),
    *(
        f"{name}={TOKEN}"
        for name in (
            "api_key", "API-KEY", "apikey", "password", "passwd", "client_secret", "client-secret", "clientsecret",
            "secret_access_key", "secretkey", "access_token", "access-token", "accesstoken", "auth_token",
            "auth-token", "AuthToken",
        )
    ),
]  # fmt: skip


def clean(*lines: bytes | str) -> list[str]:
    return Cleaner().clean([(line, 0) for line in lines])


def test_the_samples_hold_one_of_each_kind() -> None:
    assert all(any(pattern.search(secret) for secret in SECRETS) for pattern, _ in _texts())


@pytest.mark.parametrize("secret", SECRETS)
def test_whatever_is_a_secret_is_looked_at(secret: str) -> None:
    assert redact_text(secret) != secret
    assert any(trigger in secret.lower() for trigger in _TRIGGERS)
    [text] = clean(f"before {secret} after")
    assert text == redact_text(f"before {secret} after")
    assert TOKEN not in text


def test_a_secret_is_found_between_and_under_colours() -> None:
    [first, second] = clean(f"api_key=\x1b[32m'{TOKEN}'\x1b[0m", f"token \x1b[36msk-{TOKEN}\x1b[0m")
    assert TOKEN not in first + second
    assert REDACTED in first
    assert REDACTED in second
    assert clean("\x1b[32m https://example.org/key \x1b[0m") == ["\x1b[32m https://example.org/key \x1b[0m"]


def test_a_private_key_goes_whole_over_many_lines_and_calls() -> None:
    cleaner = Cleaner()
    assert cleaner.clean([("-----BEGIN PRIVATE KEY-----", 0), ("MIIEvQIB", 0)]) == [REDACTED, REDACTED]
    assert cleaner.clean_open("ADANBgkq") == REDACTED
    assert cleaner.clean([("ADANBgkq", 0), ("-----END PRIVATE KEY-----", 0)]) == [REDACTED, REDACTED]
    assert cleaner.clean([("epoch 1", 0)]) == ["epoch 1"]


def test_half_a_secret_at_the_end_of_an_open_line_is_held_back() -> None:
    cleaner = Cleaner()
    assert cleaner.clean_open(b"using sk-A1b2C3d4") == "using "
    assert "hunt" not in cleaner.clean_open(b"password=hunt")
    bar = " 45%|####      | 45/100 [00:01<00:02, 9.8it/s]"
    assert cleaner.clean_open(bar) == bar
    assert cleaner.clean_open("Continue? [y/N] ") == "Continue? [y/N] "


def test_nothing_that_is_kept_can_do_harm_to_a_terminal() -> None:
    [text] = clean(b"a\x00b\x07c\x1b[31md\x1b[0m\x1be\x7f\xc2\x9bf\tg\xff")
    assert text == "a\u2400b\u2407c\x1b[31md\x1b[0m\u241be\u2421\ufffdf\tg\ufffd"


def test_a_long_line_is_cut_after_secrets_were_removed() -> None:
    filler = "x" * (MAX_LINE - 15)
    [text] = Cleaner().clean([(f"{filler} sk-{TOKEN}", 1000)])
    assert "sk-A" not in text
    assert text.startswith(filler)
    assert text.endswith(" bytes of this line not kept ...]")
    [text] = clean("y" * (MAX_LINE + 7))
    assert text == "y" * MAX_LINE + " [... 7 bytes of this line not kept ...]"
