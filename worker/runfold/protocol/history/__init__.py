"""What logged calls mean: steps, rows, metric definitions, summaries.

Pure; the same code in the process and in the coordinator.
"""
