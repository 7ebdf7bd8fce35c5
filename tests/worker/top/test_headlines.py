"""What stands above the table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runfold.top.headlines import desync_text, failure_text, gpu_text, run_lines, stall_text, stragglers_text
from runfold.top.plain import run_text, runs_text
from runfold.top.table import Order
from worker.top.documents import document, gpu, run, writer

STALL = {
    "since_unix_s": 1.0,
    "step": 1042,
    "waiting_for": [
        {"rank": 3, "label": "rank-3", "host": "node-b", "writer": "ab", "why": "in data for 61 s"}
    ],
}


def text_of(found: dict, width: int = 200) -> str:
    return "\n".join("".join(part for part, _ in line) for line in run_lines(found, width))


def test_a_run_that_goes_well():
    assert (
        text_of(document(goodput_ratio=0.973))
        == "local/llm/job-17  running  75m21  step 1043  2.43/s  goodput 97%  2 running"
    )


def test_whom_the_others_wait_for():
    assert stall_text(run(verdicts={"stall": STALL})) == (
        "stalled at step 1042: others wait for rank 3 on node-b: in data for 61 s"
    )
    crowd = STALL | {"waiting_for": STALL["waiting_for"] * 5}
    assert stall_text(run(verdicts={"stall": crowd})).endswith("; 2 more")
    assert (
        stall_text(run(verdicts={"stall": {"step": 4, "waiting_for": []}}))
        == "stalled at step 4: no rank goes on"
    )
    assert stall_text(run(stalled=True)) == "stalled: no progress"
    assert stall_text(run(verdicts={"stall": None})) == ""


def test_what_is_wrong_is_told_whole_in_several_lines():
    why = "at step 150, others at 151; in data for 61 s; at next_batch (loader.py:11)"
    stall = STALL | {"waiting_for": [STALL["waiting_for"][0] | {"why": why}]}
    lines = text_of(document(verdicts={"stall": stall}), width=60).splitlines()
    assert " ".join(lines[1:]) == f"stalled at step 1042: others wait for rank 3 on node-b: {why}"
    assert len(lines) == 4 and max(map(len, lines)) <= 60
    crowd = stall | {"waiting_for": stall["waiting_for"] * 9}
    cut = text_of(document(verdicts={"stall": crowd}), width=60).splitlines()
    assert len(cut) == 4 and cut[-1].endswith("…")


def test_who_failed_first_and_how_sure_that_is():
    failure = {"rank": 3, "host": "node-b", "reason": "killed by SIGKILL", "label": "rank-3"}
    assert failure_text(run(first_failure=failure)) == "first failure: rank 3 on node-b: killed by SIGKILL"
    assert (
        failure_text(run(first_failure={"label": "worker-x", "reason": None})) == "first failure: worker-x: -"
    )
    crashed = document(state="crashed", reason="lost contact", confidence="inferred", first_failure=failure)
    assert "lost contact (inferred)" in text_of(crashed)


def test_stragglers_and_ranks_that_differ():
    slow = {"rank": 5, "host": "node-c", "score": 0.7, "excess_s": 0.42, "why": "data"}
    assert (
        stragglers_text(run(verdicts={"stragglers": [slow]})) == "slow: rank 5 on node-c +420ms a step: data"
    )
    differs = {"metric": "grad_norm", "step": 100, "ranks": [2, 3], "values": {}, "expected": 1}
    assert (
        desync_text(run(verdicts={"desync": [differs]}))
        == "out of sync: grad_norm of rank 2, rank 3 from step 100"
    )


def test_gpus_of_all_nodes():
    nodes = [
        {"host": "a", "gpus": [gpu(), gpu(util_percent=None, temperature_celsius=91.0)]},
        {"host": "b", "gpus": []},
    ]
    assert gpu_text({"nodes": nodes}) == "2 GPUs on 1 node, 97% busy, 142/170 GB, hottest 91 °C, 680 W"
    assert gpu_text({}) == "" and gpu_text({"nodes": [{"host": "a"}]}) == ""


def test_no_line_is_wider_than_the_terminal():
    long = document(
        writer(0), id="学習" * 60, reason="x" * 500, verdicts={"stall": STALL}, state="failed",
        first_failure={"rank": 1, "host": "h" * 300, "reason": "\x1b]0;title\x07" * 40},
    )  # fmt: skip
    for width in (1, 2, 20, 80, 133):
        for line in run_lines(long, width):
            shown = "".join(part for part, _ in line)
            assert cell_len(shown) <= width and shown.isprintable()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["stall", "waiting_for", "rank", "why", "gpus", "states", "step"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(run())), _JSON), _JSON)
def test_no_answer_breaks_the_head(of_run, nodes):
    assert run_lines({"run": of_run, "nodes": nodes}, 80)


def test_plain_text_of_a_run():
    text = run_text(document(writer(1, step_lag=2), writer(0)), width=80, order=Order("rank"))
    head, blank, titles, zero, one = text.splitlines()
    assert head.startswith("local/llm/job-17") and blank == ""
    assert titles.split() == ["RANK↑", "STATE", "STEP", "LAG", "S/STEP", "LOG", "AGE", "HOST", "LABEL"]
    assert zero.split()[:6] == ["0", "running", "1043", "0", "412ms", "0.3s"]
    assert one.split()[:4] == ["1", "running", "1043", "2"]


def test_plain_text_says_what_a_filter_left_out():
    assert run_text(document(), width=80, words="rank:1").splitlines()[-1] == "1 of 2 filtered out"


def test_plain_text_of_runs():
    assert runs_text([], width=80) == "no run goes on"
    titles, line = runs_text([run()], width=80).splitlines()
    assert titles.split()[:3] == ["STATE", "ID", "PROJECT"] and "job-17" in line and "local/llm" in line
