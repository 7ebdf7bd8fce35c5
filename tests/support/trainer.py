"""A training process for tests: logs known rows and keeps the oracle. `python -m support.trainer --help`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import runfold
from support.known import special, value
from support.oracle import Oracle
from support.uploading import Uploader


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", default="chaos")
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--group")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--writer", type=int, default=0, help="number of this writer; decides its values")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="stop after this long, even before --rows"
    )
    parser.add_argument("--pause-s", type=float, default=0.0, help="between rows")
    parser.add_argument("--width", type=int, default=4, help="scalars a row")
    parser.add_argument("--ragged", action="store_true", help="key sets change from row to row")
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--exit-code", type=int, default=0)
    parser.add_argument("--finish-timeout-s", type=float)
    parser.add_argument("--ledger", help="upload files and artifacts too, and note them here")
    parser.add_argument("--upload-every-s", type=float, default=0.15)
    args = parser.parse_args()

    oracle = Oracle(args.oracle)
    settings: dict[str, object] = {}
    if args.finish_timeout_s is not None:
        settings["finish_timeout"] = args.finish_timeout_s
    if args.shared:
        settings |= {"mode": "shared", "x_label": f"w{args.writer}", "x_primary": args.writer == 0}
    run = runfold.init(
        project=args.project, id=args.run_id, group=args.group, settings=runfold.Settings(**settings)
    )
    uploader = None
    if args.ledger:
        folder = Path(f"{args.ledger}-files")
        uploader = Uploader(run, args.writer, folder, Path(args.ledger))
    next_upload = time.monotonic()
    deadline = time.monotonic() + args.seconds
    for number in range(1, args.rows + 1):
        row: dict[str, object] = {"n": number, "w": args.writer, "v": value(args.writer, number)}
        row |= {f"x{column}": special(args.writer * 1000 + column, number) for column in range(args.width)}
        if args.ragged:
            row[f"ragged/{number % 7}"] = value(args.writer + 1, number)
            if number % 11 == 0:
                row["text"] = f"row {number} of {args.writer} \N{SNOWMAN}"
        oracle.attempt(number)
        run.log(row, step=number)
        oracle.ack(number)
        if uploader is not None and time.monotonic() >= next_upload:
            uploader.turn()
            next_upload = time.monotonic() + args.upload_every_s
        if args.pause_s:
            time.sleep(args.pause_s)
        if time.monotonic() > deadline:
            break
    oracle.finish()
    run.finish(args.exit_code)
    sys.exit(args.exit_code)


if __name__ == "__main__":
    main()
