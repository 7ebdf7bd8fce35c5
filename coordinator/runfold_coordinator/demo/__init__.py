"""`runfold demo`: trains for real on a stack of its own and shows the aggregated result.

The `train_*.py` and `read_results.py` beside this file are examples to copy: programs of a user, started
as processes of their own. Only they import `runfold`.
"""

from runfold_coordinator.demo.play import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
