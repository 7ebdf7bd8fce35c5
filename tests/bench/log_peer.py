"""Program: time each log call of a peer library; prints nanoseconds as JSON. argv: library, scalars, calls.

Runs in an environment of the peers' own and imports nothing of ours.
"""

import json
import os
import sys
import tempfile
import time


def make(library: str):
    folder = tempfile.mkdtemp(prefix="bench-peer-")
    if library == "wandb":
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": folder}
        import wandb

        run = wandb.init(project="bench")
        return run.log, run.finish
    if library == "trackio":
        os.environ["TRACKIO_DIR"] = folder
        import trackio

        trackio.init(project="bench")
        return trackio.log, trackio.finish
    import mlflow

    mlflow.set_tracking_uri(
        f"sqlite:///{folder}/mlflow.db" if os.environ.get("MLFLOW_SQLITE") else f"file://{folder}"
    )
    mlflow.set_experiment("bench")
    mlflow.start_run()
    return mlflow.log_metrics, mlflow.end_run


def main() -> None:
    library, scalars, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    log, finish = make(library)
    row = {f"metric/{number}": 0.5 + number for number in range(scalars)}
    clock = time.perf_counter_ns
    for _ in range(20):
        log(row)
    taken = [0] * calls
    for call in range(calls):
        row["metric/0"] = call * 0.1
        began = clock()
        log(row)
        taken[call] = clock() - began
    began = clock()
    finish()
    print("\n" + json.dumps({"taken": taken, "finish_ns": clock() - began}))


if __name__ == "__main__":
    main()
