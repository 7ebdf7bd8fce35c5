"""runfold."""
