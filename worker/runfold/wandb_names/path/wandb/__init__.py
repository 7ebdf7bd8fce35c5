"""`wandb` for programs that `runfold run --as-wandb` starts: leads to runfold."""

import runfold.as_wandb  # noqa: F401  # from now on this name means another module
