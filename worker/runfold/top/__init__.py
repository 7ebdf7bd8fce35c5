"""`runfold top`: a live view of a job in a terminal. A pure model, as plain text or as a textual app."""
