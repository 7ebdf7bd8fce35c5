"""Kubernetes: this pod is being deleted, or disrupted by an eviction, a drain, a preemption.

Protocol: GET of the own pod with the service account of the pod, which needs the right to get pods. In it,
metadata.deletionTimestamp, and status.conditions of type DisruptionTarget (stable since Kubernetes 1.31).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .notice import NeverError, Notice, fetch, unix_s_of

#: Where a pod finds token, namespace and ca.crt.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def api_url(environ: Mapping[str, str]) -> str | None:
    """Return the address of the API as a pod's environment tells it."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT") or "443"
    if not host:
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def pod_name(environ: Mapping[str, str]) -> str | None:
    """Return the name of this pod: by the downward API, else the host's, which is it unless set otherwise."""
    return environ.get("POD_NAME") or environ.get("HOSTNAME") or None


class Kubernetes:
    """Asks the API for its own pod. The token is read anew each time: it is renewed in the file."""

    system = "kubernetes"
    every_s = 10.0

    def __init__(self, url: str, pod: str, account: Path = SERVICE_ACCOUNT) -> None:
        self._account = account
        self._pod = pod
        self._url = url

    def look(self) -> Notice | None:
        """Return why this pod has to go."""
        namespace = (self._account / "namespace").read_text().strip()
        token = (self._account / "token").read_text().strip()
        url = f"{self._url}/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(self._pod, safe='')}"
        authority = self._account / "ca.crt"
        context = ssl.create_default_context(cafile=str(authority)) if url.startswith("https:") else None
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        said = fetch(url, headers, context=context)
        if said.status in (401, 403):
            raise NeverError(f"the service account may not get pods ({said.status})")
        if said.status == 404:
            raise NeverError(f"there is no pod {self._pod!r} in {namespace!r}: set POD_NAME")
        if said.status != 200:
            raise ValueError(f"the API answers {said.status}")
        return disruption(json.loads(said.body))


def disruption(pod: Any) -> Notice | None:
    """Return what a pod's description announces. Raises ValueError where it is none."""
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        raise ValueError("not a pod")
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    uid = str(metadata.get("uid") or "")
    for condition in status.get("conditions") or []:
        if isinstance(condition, dict) and condition.get("type") == "DisruptionTarget":
            if condition.get("status") != "True":
                continue
            reason, message = condition.get("reason") or "", condition.get("message") or ""
            text = f"Kubernetes disrupts the pod: {reason}" + (f" ({message})" if message else "")
            return Notice("kubernetes", text, _deleted_unix_s(metadata), f"{uid} {reason}")
    if metadata.get("deletionTimestamp"):
        text = f"Kubernetes deletes the pod at {metadata['deletionTimestamp']}"
        return Notice("kubernetes", text, _deleted_unix_s(metadata), f"{uid} deletion")
    return None


def _deleted_unix_s(metadata: Mapping[str, Any]) -> float | None:
    """The timestamp lies in the future by the pod's grace when the deletion is asked for."""
    return unix_s_of(metadata.get("deletionTimestamp"))
