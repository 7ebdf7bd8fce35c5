"""`runfold alerts`: what was raised and who was told; `--test` sends a receiver a message."""

from __future__ import annotations

import datetime
import os
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import MissingExtraError, console, plain, print_json, print_table
from runfold.errors import Error


class NotDeliveredError(Error):
    """The test message did not reach its receiver."""


def alerts(  # noqa: PLR0917 - options, given by name
    path: Annotated[
        str | None,
        typer.Argument(
            help='A run ("entity/project/id", "project/id" or "id"); without it, those of all runs.'
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Send a test message to this receiver of the alerts file.", metavar="RECEIVER"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Alerts file for --test; default: RUNFOLD_ALERTS.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most alerts to list.")] = 20,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first, or test a receiver."""
    if test is not None:
        _test(test, file, as_json=as_json)
        return
    api = api_for(url, timeout_s)
    found = api.alerts(limit=limit) if path is None else api.run(path).alerts(limit=limit)
    if as_json:
        print_json({"alerts": found})
    elif found:
        columns = ["raised", "level", "run", "title", "by", "delivered", "text"]
        print_table(columns, map(_row, found))
    else:
        console().print("no alerts")


def _row(alert: dict[str, Any]) -> list[Any]:
    raised = datetime.datetime.fromtimestamp(alert["raised_unix_s"], tz=datetime.UTC)
    told = ", ".join(
        f"{each['receiver']}: {each['state']}" + (f" ({each['error']})" if each["error"] else "")
        for each in alert["deliveries"]
    )
    return [
        f"{raised:%Y-%m-%d %H:%M:%SZ}",
        alert["level"],
        alert["run"],
        alert["title"],
        alert["source"],
        "suppressed" if alert["suppressed"] else told or "no receiver",
        alert["text"],
    ]


def _test(name: str, file: Path | None, *, as_json: bool) -> None:
    """Send from here, as the server would: whoever can read its alerts file may test it."""
    try:
        from runfold_coordinator.alerts.config import load_config
        from runfold_coordinator.alerts.dispatcher import send
        from runfold_coordinator.alerts.payloads import Delivery
        from runfold_coordinator.alerts.webhook import DeliveryError
    except ImportError as error:
        raise MissingExtraError("`runfold alerts --test`", "coordinator", error.name) from error
    named = os.environ.get("RUNFOLD_ALERTS")
    if file is None and not named:
        raise typer.BadParameter("say which file: --file FILE, or RUNFOLD_ALERTS", param_hint="--test")
    config = load_config(file or Path(named or ""), os.environ)
    receiver = config.find_receiver(name)
    if receiver is None:
        known = ", ".join(each.name for each in config.receiver) or "none"
        raise NotDeliveredError(f"the file has no receiver {name!r}; it has {known}")
    now_unix_s = time.time()
    delivery = Delivery(
        delivery_id=str(uuid.uuid4()),
        alert_pk=0,
        receiver=name,
        attempts=0,
        enqueued_unix_s=now_unix_s,
        title="runfold test",
        text="This receiver is told of alerts.",
        level="INFO",
        source="test",
        raised_unix_s=now_unix_s,
        entity="local",
        project="test",
        run_id="test",
        run_name=None,
        state="running",
        reason="",
    )
    try:
        send(receiver, delivery, now_unix_s)
    except DeliveryError as error:
        raise NotDeliveredError(f"{name}: {error}") from error
    if as_json:
        print_json({"receiver": name, "delivery": delivery.delivery_id})
    else:
        console().print(plain(f"delivered to {name}"))
