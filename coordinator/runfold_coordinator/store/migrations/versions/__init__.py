"""One file a step, oldest first; never edited once released."""
