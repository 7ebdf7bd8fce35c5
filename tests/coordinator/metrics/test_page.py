"""`/metrics` over a real store: valid in both formats, true, bounded."""

from __future__ import annotations

import base64
import threading

import pytest
import sqlalchemy as sa
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from coordinator.api.asgi import AsgiClient
from coordinator.api.conftest import HeardIntake, backend_over
from coordinator.readers.stored_run import Said, StoredRun
from runfold.protocol.values import pack_value
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.gate import GatePolicy
from runfold_coordinator.ingest.measures import ControlCounts, Durations
from runfold_coordinator.ingest.transaction import Counts
from runfold_coordinator.metrics.backlog import Backlog
from runfold_coordinator.metrics.building import Metrics, wanted_names
from runfold_coordinator.metrics.content import ContentMetrics
from runfold_coordinator.metrics.http_counts import HttpCounts
from runfold_coordinator.metrics.own import OwnSources
from runfold_coordinator.metrics.page import FRESH_S, OPENMETRICS_TYPE, TEXT_TYPE
from runfold_coordinator.metrics.training import FAMILIES, Caps
from runfold_coordinator.readers.goodput_reader import GoodputReader
from runfold_coordinator.readers.live_reader import LiveReader, NothingHeard
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store
from support.frames import FakeClock
from support.stores import new_database

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Loop:
    """What the page reads of a partition's thread."""

    def __init__(self) -> None:
        self.is_connected, self.fault = True, ""
        self.commits, self.control = Durations(), ControlCounts(heartbeats=3)
        self.counts = Counts(entries=7, rows=5, duplicate_frames=2)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(new_database(tmp_path / "runfold.db"))
    yield opened
    opened.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def metrics_over(
    store,
    loop: Loop | None = None,
    clock: FakeClock | None = None,
    content: ContentMetrics | None = None,
    **more,
) -> Metrics:
    """Metrics at a time that stands still: what a scrape follows of runs it follows to the end."""
    clock = clock or FakeClock()
    live = LiveReader(store, clock, NothingHeard(), GoodputReader(store, clock).goodput)
    sources = OwnSources(
        store=store,
        clock=clock,
        http=HttpCounts(),
        loops=[] if loop is None else [loop],
        backlog=lambda: Backlog(waiting=((4, 1.5),), memory_bytes=1000, max_memory_bytes=2000),
        more=[] if content is None else [content.families],
    )
    return Metrics(sources, live, **more)


def samples(metrics: Metrics, accept: str = OPENMETRICS) -> dict[str, dict[tuple, float]]:
    """Return values by sample name and labels; every name once."""
    found: dict[str, dict[tuple, float]] = {}
    answer = metrics.page.answer(accept)
    parse = parse_openmetrics if answer.content_type == OPENMETRICS_TYPE else parse_text
    for family in parse(answer.body.decode()):
        for each in family.samples:
            labels = tuple(sorted(each.labels.items()))
            assert labels not in found.setdefault(each.name, {}), f"{each.name}{labels} twice"
            found[each.name][labels] = each.value
    return found


def job(store, run_id: str = "r", ranks: int = 3, *, started_s: float = 0.0, **changes) -> StoredRun:
    run = StoredRun(store, run_id)
    for rank in range(ranks):
        said = Said(rank, run_id=run_id, started_s=started_s, label=f"rank-{rank}", name="calm-sea")
        for step in range(10 - rank):
            said.log({"loss": float(step + rank), "lr": 0.1, "note": "text"}, step=step, commit=True)
        run.deliver(said)
    if changes:
        with store.transaction() as tx:
            tx.connection.execute(sa.update(t.runs).where(t.runs.c.run_pk == run.run_pk).values(**changes))
    return run


def of(found: dict[str, dict[tuple, float]], sample: str, /, **labels: str) -> list[float]:
    wanted = set(labels.items())
    return [value for each, value in found.get(sample, {}).items() if wanted <= set(each)]


def test_a_run_that_goes_on(store):
    job(store)
    found = samples(metrics_over(store))
    assert of(found, "runfold_run_state", run_id="r", state="running", run_name="calm-sea") == [1.0]
    assert of(found, "runfold_run_step", run_id="r") == [9.0]
    assert of(found, "runfold_run_step_lag", world_rank="2") == [2.0]
    assert of(found, "runfold_run_steps_per_second") == [1.0]
    assert of(found, "runfold_rank_step_seconds", world_rank="1") == [1.0]
    assert len(of(found, "runfold_rank_last_log_age_seconds")) == 3
    assert of(found, "runfold_run_ranks", state="running") == [3.0]
    # Settled is what rank 2, at step 7, has passed: the mean of 6, 7 and 8.
    assert of(found, "runfold_run_settled_step") == [6.0]
    assert of(found, "runfold_run_metric", name="loss") == [7.0]
    assert of(found, "runfold_run_metric", name="lr") == [pytest.approx(0.1)]
    assert of(found, "runfold_run_metric", name="note") == []
    assert of(found, "runfold_run_info", mode="shared") == [1.0]
    (ratio,) = of(found, "runfold_run_goodput_ratio")
    assert 0 < ratio < 1


def test_verdicts_and_flags(store):
    verdicts = {
        "stall": {"step": 4},
        "stragglers": [{"rank": 1}],
        "desync": [{"metric": "a"}, {"metric": "b"}],
    }
    job(store, stalled=True, unreachable=True, verdicts=pack_value(verdicts))
    found = samples(metrics_over(store))
    assert of(found, "runfold_run_stalled") == [1.0] and of(found, "runfold_run_unreachable") == [1.0]
    assert of(found, "runfold_run_stragglers") == [1.0] and of(found, "runfold_run_desyncs") == [2.0]


def test_both_formats_say_the_same(store, loop):
    job(store)
    metrics = metrics_over(store, loop)
    new, old = samples(metrics), samples(metrics, "text/plain")
    changing = ("process_", "runfold_ingest_commit_seconds_created")
    assert {n: v for n, v in new.items() if not n.startswith(changing) and "age_seconds" not in n} == {
        n: v for n, v in old.items() if not n.startswith(changing) and "age_seconds" not in n
    }


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (OPENMETRICS, OPENMETRICS_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", OPENMETRICS_TYPE),
        ("application/openmetrics-text; version=0.0.1;escaping=allow-utf-8", TEXT_TYPE),
        ("text/plain", TEXT_TYPE),
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("\x00;;=,,version", TEXT_TYPE),
    ],
)
def test_what_is_accepted_decides_the_format(store, accept, content_type):
    metrics = metrics_over(store)
    assert metrics.page.answer(accept).content_type in (
        content_type,
        OPENMETRICS_TYPE if "openmetrics" in accept else content_type,
    )
    assert samples(metrics, accept)


def test_the_coordinators_own_families(store, loop):
    for seconds in (0.003, 0.2, 60.0):
        loop.commits.note(seconds)
    job(store)
    job(store, "over", started_s=1, state="finished", ended_unix_ns=1)
    found = samples(metrics_over(store, loop))
    assert of(found, "runfold_ingest_entries_total", partition="0") == [7.0]
    assert of(found, "runfold_ingest_refused_frames_total", result="duplicate") == [2.0]
    assert of(found, "runfold_control_messages_total", kind="heartbeats") == [3.0]
    assert of(found, "runfold_ingest_commit_seconds_bucket", le="0.005") == [1.0]
    assert of(found, "runfold_ingest_commit_seconds_bucket", le="+Inf") == [3.0]
    assert of(found, "runfold_ingest_commit_seconds_sum") == [pytest.approx(60.203)]
    assert of(found, "runfold_backlog_entries") == [4.0] and of(found, "runfold_backlog_age_seconds") == [1.5]
    assert of(found, "runfold_redis_up") == [1.0] and of(found, "runfold_redis_memory_limit_bytes") == [
        2000.0
    ]
    assert of(found, "runfold_runs", state="running") == [1.0] and of(
        found, "runfold_runs", state="preempting"
    ) == [0.0]
    assert of(found, "runfold_writers", state="running") == [3.0]
    assert of(found, "runfold_database_bytes")[0] > 10_000
    assert len(of(found, "runfold_build_info", server_id=store.server_id)) == 1
    assert of(found, "process_resident_memory_bytes")[0] > 1e6


def test_a_run_that_ended_is_shown_for_a_while(store):
    clock = FakeClock()
    now_ns = int(clock.unix_s() * 1e9)
    job(store, "lately", state="failed", ended_unix_ns=now_ns - 60 * 10**9)
    job(store, "long-ago", started_s=1, state="failed", ended_unix_ns=now_ns - 3600 * 10**9)
    found = samples(metrics_over(store, clock=clock))
    assert of(found, "runfold_run_state", run_id="lately", state="failed") == [1.0]
    assert of(found, "runfold_run_state", run_id="long-ago") == []


def test_caps_are_kept_and_what_they_leave_out_is_counted(store):
    for number in range(5):
        job(store, f"run-{number}", ranks=4, started_s=number)
    metrics = metrics_over(store, caps=Caps(runs=3, ranks=2, metrics=1))
    found = samples(metrics)
    assert len(found["runfold_run_metric"]) == 3
    assert len(found["runfold_run_state"]) == 3 and len(found["runfold_run_step_lag"]) == 6
    assert {dict(labels)["name"] for labels in found["runfold_run_metric"]} == {"loss"}
    left_out = {
        kind: of(found, "runfold_metrics_left_out", kind=kind)
        for kind in ("runs", "ranks", "metrics", "gpus")
    }
    assert left_out == {"runs": [2.0], "ranks": [6.0], "metrics": [3.0], "gpus": [0.0]}
    metrics.close()


def test_names_that_are_exported_can_be_chosen(store):
    job(store)
    found = samples(metrics_over(store, keys="lo*, nothing"))
    assert {dict(labels)["name"] for labels in found["runfold_run_metric"]} == {"loss"}
    assert wanted_names("")("loss") is False
    assert "runfold_run_metric" not in samples(metrics_over(store, keys="-"))


def test_hostile_names_make_valid_text(store):
    run = StoredRun(store, 'r"\\\n{}')
    for second, label in enumerate(('a"b', "a\\", "a\nb", "é学")):
        said = Said(label=label, run_id="x", name='evil"} 1\n# EOF\n', started_s=second)
        for step in range(3):
            said.log(
                {'k"\n}': 1.0, "nan": float("nan"), "inf": float("inf"), "big": 2**80}, step=step, commit=True
            )
        run.deliver(said)
    found = samples(metrics_over(store))
    assert of(found, "runfold_run_metric", name='k"\n}') == [1.0]
    assert of(found, "runfold_run_metric", name="inf") == [float("inf")]
    assert {dict(labels)["world_rank"] for labels in found["runfold_run_step_lag"]} == {
        'a"b',
        "a\\",
        "a\nb",
        "é学",
    }


def test_two_processes_of_one_name_are_one_series(store):
    run = StoredRun(store)
    for second in range(2):
        said = Said(label="same", started_s=second)
        said.log({"loss": 1.0}, step=0, commit=True)
        run.deliver(said)
    found = samples(metrics_over(store))
    assert len(found["runfold_run_step_lag"]) == 1 and of(
        found, "runfold_metrics_left_out", kind="ranks"
    ) == [1.0]


def test_an_empty_server_has_a_page(store):
    found = samples(metrics_over(store))
    assert of(found, "runfold_runs", state="running") == [0.0]
    assert not any(name in found for name in FAMILIES)


def test_the_page_is_made_once_a_second_however_many_ask(store):
    metrics = metrics_over(store)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(metrics.page.answer(OPENMETRICS).body))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and len(set(answers)) == 1
    assert FRESH_S >= 1.0


def test_values_follow_the_run(store):
    run, said = StoredRun(store), Said(0)
    for step in range(5):
        said.log({"loss": float(step)}, step=step, commit=True)
    run.deliver(said)
    clock = FakeClock()
    metrics = metrics_over(store, clock=clock)
    assert of(samples(metrics), "runfold_run_metric", name="loss") == [3.0]
    for step in range(5, 5000):
        said.log({"loss": float(step)} | ({"accuracy": 0.5} if step == 4000 else {}), step=step, commit=True)
    run.deliver(said)
    with store.transaction() as tx:  # as ingest does with each commit that touches a run
        tx.connection.execute(sa.update(t.runs).values(version=t.runs.c.version + 1))
    assert of(samples(metrics), "runfold_run_metric", name="loss") == [3.0], "a page is kept for a while"
    clock.now_s += FRESH_S
    found = samples(metrics)
    assert of(found, "runfold_run_metric", name="loss") == [4998.0]
    assert of(found, "runfold_run_metric", name="accuracy") == [0.5]
    metrics.close()


def test_requests_are_counted_by_route_and_refusals_too(store):
    job(store)
    policy = GatePolicy.for_address("0.0.0.0", api_key="geheim")
    client = AsgiClient(create_app(backend_over(store, HeardIntake(), gate=policy)))
    key = {"Authorization": "Bearer geheim"}
    assert client.get("/metrics").status_code == 401
    for _ in range(3):
        assert client.get("/api/v1/runs/e/p/r", headers=key).status_code == 200
    assert client.get("/api/v1/runs/e/p/none", headers=key).status_code == 404
    assert client.get("/api/v1/nothing/here", headers=key).status_code == 404
    assert client.request("BREW", "/metrics", headers=key).status_code == 405
    basic = {
        "Authorization": "Basic " + base64.b64encode(b"prometheus:geheim").decode(),
        "Accept": OPENMETRICS,
    }
    answer = client.get("/metrics", headers=basic)
    assert answer.status_code == 200 and answer.headers["content-type"] == OPENMETRICS_TYPE
    counted = {
        (each.labels["method"], each.labels["route"], each.labels["status"]): each.value
        for family in parse_openmetrics(answer.text)
        for each in family.samples
        if each.name == "runfold_http_requests_total"
    }
    route = "/api/v1/runs/{entity}/{project}/{run_id}"
    assert counted[("GET", route, "2xx")] == 3 and counted[("GET", route, "4xx")] == 1
    assert counted[("GET", "none", "4xx")] == 2, "refused without the key, and no such route"
    assert any(method == "other" for method, _, _ in counted)


@pytest.mark.parametrize("version", ["x", "....", "1e999", ""])
def test_a_scraper_that_asks_for_an_odd_version_is_answered(store, version):
    page = metrics_over(store).page
    assert page.answer(f"application/openmetrics-text; version={version}").content_type in (
        TEXT_TYPE,
        OPENMETRICS_TYPE,
    )
