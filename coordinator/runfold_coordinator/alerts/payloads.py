"""What a receiver gets: the JSON of an alert, Slack's form of it, and the signature. Pure.

Headers and signature are those of Standard Webhooks (standardwebhooks.com), so that its libraries verify
them: `webhook-signature: v1,` + base64(HMAC-SHA256(secret, id + "." + timestamp + "." + body)).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runfold_coordinator.alerts.texts import escape_slack

#: Slack's limits: a header block, a section block.
SLACK_TITLE_CHARS = 150
SLACK_TEXT_CHARS = 3000
MAX_REASON_CHARS = 1000
_SLACK_MARKS = {"INFO": "", "WARN": "[warning] ", "ERROR": "[error] "}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert for one receiver, as it waits in the database. `delivery_id` is the same at every attempt."""

    delivery_id: str
    alert_pk: int
    receiver: str
    attempts: int
    enqueued_unix_s: float
    title: str
    text: str
    level: str
    source: str
    raised_unix_s: float
    entity: str
    project: str
    run_id: str
    run_name: str | None
    state: str
    reason: str


def document_of(delivery: Delivery) -> dict[str, Any]:
    """Return the JSON document of a webhook's body and of a command's standard input."""
    return {
        "delivery": delivery.delivery_id,
        "attempt": delivery.attempts + 1,
        "alert": {
            "title": delivery.title,
            "text": delivery.text,
            "level": delivery.level,
            "source": delivery.source,
            "raised_unix_s": delivery.raised_unix_s,
        },
        "run": {
            "entity": delivery.entity,
            "project": delivery.project,
            "id": delivery.run_id,
            "name": delivery.run_name,
            "state": delivery.state,
            "reason": delivery.reason[:MAX_REASON_CHARS],
        },
    }


def body_of(delivery: Delivery) -> bytes:
    """Return the document as JSON in ASCII."""
    return json.dumps(document_of(delivery)).encode()


def slack_body_of(delivery: Delivery) -> bytes:
    """Return the message for Slack's incoming webhooks. Only plain text: nothing in it links or mentions."""
    path = f"{delivery.entity}/{delivery.project}/{delivery.run_id}"
    title = f"{_SLACK_MARKS.get(delivery.level, '')}{delivery.title}"
    blocks = [
        {"type": "header", "text": _plain(title, SLACK_TITLE_CHARS)},
        {"type": "section", "text": _plain(delivery.text or delivery.title, SLACK_TEXT_CHARS)},
        {"type": "context", "elements": [_plain(f"{path}: {delivery.state}", SLACK_TITLE_CHARS)]},
    ]
    # What notifications show; here Slack would read mrkdwn.
    text = escape_slack(f"{title}: {delivery.text}"[:SLACK_TEXT_CHARS])
    message = {
        "text": text,
        "blocks": blocks,
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    return json.dumps(message).encode()


def headers_of(delivery_id: str, body: bytes, secret: str | None, now_unix_s: float) -> Mapping[str, str]:
    """Return the headers of a webhook; the signature where there is a secret."""
    timestamp = str(int(now_unix_s))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "runfold-alerts",
        "Runfold-Delivery": delivery_id,
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
    }
    if secret is not None:
        headers["webhook-signature"] = sign(secret, delivery_id, timestamp, body)
    return headers


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature. A secret that begins with "whsec_" is base64 of the key, any other is the key."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    said = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": text[:limit] or " ", "emoji": False}
