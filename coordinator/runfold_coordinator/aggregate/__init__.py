"""Aggregation over writers, folds and attempts. Pure numpy."""
