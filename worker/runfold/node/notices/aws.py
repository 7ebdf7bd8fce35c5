"""Amazon EC2: notices that a spot instance is reclaimed, from the instance metadata service (IMDSv2).

Protocol: "Spot Instance interruption notices" and "Use IMDSv2" of the EC2 user guide. A rebalance
recommendation is no notice: most such instances go on.
"""

from __future__ import annotations

import json

from .notice import Notice, fetch, unix_s_of

#: Asked for at most this often in a token's life of 6 hours.
_TOKEN_TTL_S = 21_600


class Aws:
    """Two minutes before the end it tells {"action": "terminate", "time": "2017-09-18T08:22:00Z"}."""

    system = "aws"
    every_s = 5.0

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = ""

    def look(self) -> Notice | None:
        """Return the interruption that is announced."""
        status, body, _ = self._ask()
        if status == 401:  # the token has expired
            self._token = ""
            status, body, _ = self._ask()
        if status == 404:
            return None
        if status != 200:
            raise ValueError(f"the metadata service answers {status}")
        return interruption(body)

    def _ask(self) -> tuple[int, bytes, object]:
        if not self._token:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
            said = fetch(f"{self._base_url}/latest/api/token", wanted, method="PUT")
            if said.status != 200:
                raise ValueError(f"the metadata service gives no token: {said.status}")
            self._token = said.body.decode("ascii").strip()
        return fetch(
            f"{self._base_url}/latest/meta-data/spot/instance-action",
            {"X-aws-ec2-metadata-token": self._token},
        )


def interruption(body: bytes) -> Notice:
    """Return what an answer announces. Raises ValueError where it is none."""
    said = json.loads(body)
    action = said.get("action") if isinstance(said, dict) else None
    if not action:
        raise ValueError("not an instance action")
    at = said.get("time")
    text = f"EC2 spot instance: {action} at {at}"
    return Notice("aws", text, unix_s_of(at), f"{action} {at}")
