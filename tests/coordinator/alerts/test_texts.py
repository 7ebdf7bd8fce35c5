"""Texts: cut, clean, and nothing in them that a display would obey."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.alerts.payloads import Delivery, body_of, headers_of, sign, slack_body_of
from runfold_coordinator.alerts.texts import (
    FIELDS,
    check_template,
    clean_text,
    clean_title,
    escape_slack,
    fill,
)
from runfold_coordinator.alerts.webhook import MAX_BODY_BYTES


def delivery(**more: object) -> Delivery:
    facts: dict[str, object] = {
        "delivery_id": "d1", "alert_pk": 1, "receiver": "ops", "attempts": 0, "enqueued_unix_s": 0.0,
        "title": "t", "text": "x", "level": "WARN", "source": "run", "raised_unix_s": 1.5, "entity": "e",
        "project": "p", "run_id": "r", "run_name": None, "state": "running", "reason": "",
    }  # fmt: skip
    return Delivery(**(facts | more))  # type: ignore[arg-type]


def test_titles_are_one_line_of_64_characters() -> None:
    assert clean_title("a\nb\x1b[31m\u202e") == r"a b\x1b[31m\u202e"
    assert len(clean_title("x" * 1000)) == 64


@given(st.text())
def test_texts_have_no_control_characters_but_line_ends(text: str) -> None:
    cleaned = clean_text(text)
    assert len(cleaned) <= 4000
    assert all(char.isprintable() or char in "\n\t" for char in cleaned)


def test_slack_mentions_nobody() -> None:
    text = "<!channel> <@U1> & <https://evil.test|here>"
    assert escape_slack(text) == "&lt;!channel&gt; &lt;@U1&gt; &amp; &lt;https://evil.test|here&gt;"
    message = json.loads(slack_body_of(delivery(title="<!here>", text=text)))
    assert "<" not in message["text"] and message["link_names"] is False
    shown = [message["blocks"][0]["text"], message["blocks"][1]["text"], *message["blocks"][2]["elements"]]
    assert {each["type"] for each in shown} == {"plain_text"}


def test_an_empty_alert_is_still_a_valid_slack_message() -> None:
    message = json.loads(slack_body_of(delivery(title="", text="", level="INFO")))
    assert all(block["text"]["text"] for block in message["blocks"][:2])


def test_the_largest_alert_fits_into_a_body() -> None:
    widest = "\U0001f4a5"
    largest = delivery(
        title=widest * 64,
        text=widest * 4000,
        reason=widest * 5000,
        entity=widest * 128,
        run_name=widest * 500,
    )
    assert len(body_of(largest)) < MAX_BODY_BYTES and len(slack_body_of(largest)) < MAX_BODY_BYTES


def test_templates_fill_plain_names_only() -> None:
    check_template("{run} {{braces}} {metric}")
    assert (
        fill("{run}: {value} {{x}} {rank}", {"run": "r{value}", "value": 3, "rank": None})
        == "r{value}: 3 {x} "
    )
    assert len(fill("{detail}", {"detail": "x" * 10_000})) == 500
    for name in FIELDS:
        check_template(f"{{{name}}}")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The vector of the specification's own libraries.
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    found = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    headers = headers_of("d1", b"{}", "plain key", 12.7)
    expected = base64.b64encode(hmac.digest(b"plain key", b"d1.12.{}", hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert (headers["Runfold-Delivery"], headers["webhook-timestamp"]) == ("d1", "12")
    assert "webhook-signature" not in headers_of("d1", b"{}", None, 0)
