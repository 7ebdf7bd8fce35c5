"""runfold under W&B's names, for libraries that `import wandb` on their own. See runfold/as_wandb.py."""
