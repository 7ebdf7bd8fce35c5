"""`wandb` for programs that `runfold run --as-wandb` starts: leads to runfold."""

import sys

# Away until its modules can be found: other threads that want one of them wait for this import then.
_module = sys.modules.pop(__name__)
try:
    import runfold.as_wandb  # noqa: F401
    from runfold.wandb_names.modules import WandbModule

    _module.__class__ = WandbModule
finally:
    sys.modules[__name__] = _module
