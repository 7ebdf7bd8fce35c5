"""Delivers what waits in the outbox: a few at a time, so that a slow receiver holds up no other."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from runfold_coordinator.alerts.addresses import Resolver, resolve
from runfold_coordinator.alerts.back_off import LONGEST_DELAY_S, Allowance, is_given_up, retry_delay_s
from runfold_coordinator.alerts.command import run_command
from runfold_coordinator.alerts.config import AlertsConfig, Receiver
from runfold_coordinator.alerts.outbox import DELIVERED, GIVEN_UP, WAITING, Outbox
from runfold_coordinator.alerts.payloads import Delivery, body_of, headers_of, slack_body_of
from runfold_coordinator.alerts.webhook import DeliveryError, post
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.turn_loop import TurnLoop

logger = logging.getLogger(__name__)

#: Deliveries at a time; and to one receiver, so that one that hangs leaves room for the others.
WORKERS = 8
WORKERS_PER_RECEIVER = 2
LOOK_EVERY_S = 1.0
AFTER_FAULT_S = 5.0


def send(receiver: Receiver, delivery: Delivery, now_unix_s: float, resolver: Resolver = resolve) -> None:
    """Deliver once; DeliveryError where that failed."""
    if receiver.kind == "command":
        output = run_command(receiver.command, body_of(delivery), timeout_s=receiver.timeout_s)
        facts = {"event": "alert_command", "receiver": receiver.name, "output": output}
        logger.info("an alert's command has run", extra=facts)
        return
    assert receiver.url is not None, "checked when the file was read"
    body = slack_body_of(delivery) if receiver.kind == "slack" else body_of(delivery)
    secret = None if receiver.secret is None else receiver.secret.get_secret_value()
    post(
        receiver.url.get_secret_value(),
        body,
        headers_of(delivery.delivery_id, body, secret, now_unix_s),
        timeout_s=receiver.timeout_s,
        allow_http=receiver.allow_http,
        allow_private=receiver.allow_private,
        ca_file=receiver.ca_file,
        resolver=resolver,
    )


class Dispatcher:
    """Runs until stop(). What was sent and not settled is sent again after a restart, with the same id."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        config: Callable[[], AlertsConfig],
        *,
        resolver: Resolver = resolve,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._config = config
        self._resolver = resolver
        self._jitter = jitter
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._in_flight: set[tuple[int, str]] = set()
        self._allowances: dict[str, Allowance] = {}
        self._is_closed = False
        self._loop = TurnLoop(
            "alert-dispatch", self._look, retry_s=AFTER_FAULT_S, fault_retry_s=AFTER_FAULT_S
        )

    def start(self) -> None:
        self._loop.start()

    def wake(self) -> None:
        """Look now: something was put into the outbox."""
        self._loop.wake()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Begin no more deliveries, and wait a little for those under way; idempotent."""
        self._loop.stop()
        deadline_s = time.monotonic() + timeout_s
        while self._in_flight and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._is_closed = True

    def turn(self) -> int:
        """Begin what is due and can be taken now; return how many."""
        config, now_s, now_unix_s = self._config(), self._clock.mono_s(), self._clock.unix_s()
        with self._lock:
            in_flight = set(self._in_flight)
            busy = {name for name, count in self._busy.items() if count >= WORKERS_PER_RECEIVER}
        if len(in_flight) >= WORKERS:
            return 0
        blocked = busy | {name for name in self._allowances if not self._may_take(config, name, now_s)}
        begun = 0
        for delivery in self._outbox.due(now_unix_s, LONGEST_DELAY_S * 2, without=blocked, limit=100):
            key = (delivery.alert_pk, delivery.receiver)
            if key in in_flight or self._loop.is_stopping():
                continue
            receiver = config.find_receiver(delivery.receiver)
            if receiver is None:
                reason = "the alerts file has no such receiver any more"
                self._outbox.settle(delivery, GIVEN_UP, attempts=delivery.attempts, error=reason)
                continue
            if not self._may_take(config, receiver.name, now_s) or not self._begin(key):
                continue
            self._allowances[receiver.name].take()
            # Daemons: one that hangs must not keep the server from ending.
            threading.Thread(
                target=self._deliver, args=(receiver, delivery), name="runfold-alert-send", daemon=True
            ).start()
            begun += 1
        return begun

    def _may_take(self, config: AlertsConfig, name: str, now_s: float) -> bool:
        receiver = config.find_receiver(name)
        if receiver is None:
            return True  # to be given up
        allowance = self._allowances.get(name)
        if allowance is None or allowance.per_minute != receiver.per_minute:
            allowance = self._allowances[name] = Allowance.full(receiver.per_minute, now_s)
        return allowance.has_any(now_s)

    def _begin(self, key: tuple[int, str]) -> bool:
        with self._lock:
            if self._busy[key[1]] >= WORKERS_PER_RECEIVER or len(self._in_flight) >= WORKERS:
                return False
            self._busy[key[1]] += 1
            self._in_flight.add(key)
            return True

    def _deliver(self, receiver: Receiver, delivery: Delivery) -> None:
        try:
            self._try(receiver, delivery)
        except StoreError as error:
            # Not settled: it is due still, and is sent again with the same id.
            logger.warning("a delivery waits", extra={"event": "alert_store_away", "why": str(error)})
            self._loop.pause(AFTER_FAULT_S)
        except Exception:
            logger.exception("a delivery failed", extra={"event": "alert_failed", "receiver": receiver.name})
            self._loop.pause(AFTER_FAULT_S)
        finally:
            with self._lock:
                self._busy[receiver.name] -= 1
                self._in_flight.discard((delivery.alert_pk, delivery.receiver))
            self._loop.wake()

    def _try(self, receiver: Receiver, delivery: Delivery) -> None:
        attempts = delivery.attempts + 1
        try:
            send(receiver, delivery, self._clock.unix_s(), self._resolver)
        except DeliveryError as error:
            now_unix_s = self._clock.unix_s()
            next_unix_s = now_unix_s + retry_delay_s(attempts, self._jitter(), error.retry_after_s)
            gives_up = is_given_up(delivery.enqueued_unix_s, next_unix_s)
            logger.warning(
                "an alert was not delivered",
                extra={
                    "event": "alert_given_up" if gives_up else "alert_retried",
                    "receiver": receiver.name,
                    "delivery": delivery.delivery_id,
                    "attempts": attempts,
                    "why": str(error),
                },
            )
            state = GIVEN_UP if gives_up else WAITING
            self._settle(delivery, state, attempts=attempts, error=str(error), next_unix_s=next_unix_s)
            return
        now_unix_s = self._clock.unix_s()
        self._settle(delivery, DELIVERED, attempts=attempts, delivered_unix_s=now_unix_s)

    def _settle(self, delivery: Delivery, state: str, **facts: Any) -> None:
        if not self._is_closed:  # the database is, too: it is sent again, with the same id
            self._outbox.settle(delivery, state, **facts)

    def _look(self) -> float:
        self.turn()
        return LOOK_EVERY_S
