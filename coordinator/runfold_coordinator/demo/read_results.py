"""Read both results back through the public API, and print them as JSON.

python read_results.py --run RUN_ID --group digits-cv
"""

import argparse
import json

import runfold

STATISTICS = ("mean", "std", "min", "max", "count", "argmin", "argmax")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", default="demo")
    parser.add_argument("--run", help="default: the newest run that is in no group")
    parser.add_argument("--group", default="digits-cv")
    args = parser.parse_args()

    api = runfold.Api()
    if args.run:
        ddp = api.run(f"{args.project}/{args.run}")
    else:
        ddp = next(run for run in api.runs(args.project, order="-created_at") if run.group != args.group)
    # stats=True gives, beside the reduced value, what the ranks said about each other at that step.
    rows = ddp.history(samples=10_000, keys=["loss"], pandas=False, stats=True)
    last = max(rows, key=lambda row: row["_step"])
    group = api.group(f"{args.project}/{args.group}")
    table = group.table(pandas=False)
    folds = group.summary(pandas=False)

    print(
        json.dumps(
            {
                "ddp": {
                    "run": ddp.id,
                    "state": ddp.state,
                    "ranks": len(ddp.writers()),
                    "steps": len(rows),
                    "last_step": last["_step"],
                    "loss": {name: last[f"loss:{name}"] for name in STATISTICS},
                    "test_accuracy": ddp.summary["test_accuracy"],
                    "accounting": ddp.accounting(),
                },
                "cv": {
                    "group": args.group,
                    "folds": {str(row["fold"]): row["accuracy.last"] for row in folds},
                    "accuracy": next(row for row in table if row["key"] == "accuracy.last"),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
