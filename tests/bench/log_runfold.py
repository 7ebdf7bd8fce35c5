"""Program: time each call of `runfold.Run.log()`; prints nanoseconds as JSON. argv: scalars, calls."""

import json
import sys
import time
import uuid

import runfold


def main() -> None:
    scalars, calls = int(sys.argv[1]), int(sys.argv[2])
    run = runfold.init(project="bench", id=uuid.uuid4().hex)
    row = {f"metric/{number}": 0.5 + number for number in range(scalars)}
    clock = time.perf_counter_ns
    for _ in range(2000):  # the first calls build the schema and the segment
        run.log(row)
    taken = [0] * calls
    for call in range(calls):
        row["metric/0"] = call * 0.1
        began = clock()
        run.log(row)
        taken[call] = clock() - began
    began = clock()
    run.finish()
    print(json.dumps({"taken": taken, "finish_ns": clock() - began}))


if __name__ == "__main__":
    main()
