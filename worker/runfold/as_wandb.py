"""`import runfold.as_wandb`, before any `import wandb`: from then on that gives runfold, in this process.

For libraries that import W&B on their own: trainers, loggers, callbacks. `runfold run --as-wandb -- CMD` does
it for all processes of a command, with nothing changed in it. docs/wandb.md
"""

from runfold.wandb_names.modules import install

install()
