"""Cross-validation: one process and one run a fold, tied together by their group.

for k in 0 1 2 3 4; do python train_cv.py --fold $k & done; wait
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

import runfold


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--group", default="digits-cv")
    args = parser.parse_args()

    # Grouped mode: a run of its own, which the group and the fold number tie to the others.
    with runfold.init(
        project="demo",
        group=args.group,
        job_type="fold",
        fold=args.fold,
        name=f"{args.group}-{args.fold}",
        config={"folds": args.folds, "epochs": args.epochs, "hidden": 32},
    ) as run:
        run.define_metric("accuracy", summary="max,last")
        digits = load_digits()
        splits = StratifiedKFold(args.folds, shuffle=True, random_state=0).split(digits.data, digits.target)
        train, test = list(splits)[args.fold]
        x, y = digits.data / 16.0, digits.target
        model = MLPClassifier(
            (32,), solver="sgd", learning_rate_init=0.1, batch_size=64, random_state=args.fold
        )
        classes = np.unique(y)
        for epoch in range(args.epochs):
            model.partial_fit(x[train], y[train], classes=classes)
            run.log(
                {
                    "loss": float(model.loss_),
                    "val_loss": float(log_loss(y[test], model.predict_proba(x[test]), labels=classes)),
                    "accuracy": float(model.score(x[test], y[test])),
                },
                step=epoch,
            )


if __name__ == "__main__":
    main()
