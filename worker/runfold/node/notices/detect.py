"""Which sources there may be on this machine. Nobody else is asked: metadata addresses mean others elsewhere.

In: the settings' words, what the firmware says of the machine, the environment. Out: sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .aws import Aws
from .azure import Azure
from .gcp import Gcp
from .kubernetes import SERVICE_ACCOUNT, Kubernetes, api_url, pod_name
from .notice import Source

DMI = Path("/sys/class/dmi/id")
#: What distinguishes an Azure machine from any other on Hyper-V.
_AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"


def cloud_of(dmi: Path = DMI) -> str | None:
    """Return the cloud that a machine's firmware names: aws, gcp or azure."""
    vendor, product = _text(dmi / "sys_vendor"), _text(dmi / "product_name")
    if vendor.startswith("Amazon EC2") or _text(dmi / "bios_vendor").startswith("Amazon EC2"):
        return "aws"
    if vendor == "Google" or product.startswith("Google Compute Engine"):
        return "gcp"
    if _text(dmi / "chassis_asset_tag") == _AZURE_ASSET_TAG:
        return "azure"
    return None


def sources(
    chosen: tuple[str, ...],
    environ: Mapping[str, str],
    *,
    metadata_url: str,
    dmi: Path = DMI,
    account: Path = SERVICE_ACCOUNT,
) -> list[Source]:
    """Return the sources to ask.

    Args:
        chosen: ("auto",), ("off",), or names of systems, which are then asked whatever the machine is.
    """
    is_auto = chosen == ("auto",)
    found: list[Source] = []
    cloud = cloud_of(dmi) if is_auto else None
    for name, kind in (("aws", Aws), ("gcp", Gcp), ("azure", Azure)):
        if name in chosen or name == cloud:
            found.append(kind(metadata_url))
    url, pod = api_url(environ), pod_name(environ)
    if (is_auto or "kubernetes" in chosen) and url and pod and (account / "token").exists():
        found.append(Kubernetes(url, pod, account))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
