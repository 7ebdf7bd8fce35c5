"""What people ask for, read from the store and aggregated: histories, series, summaries, groups, attempts."""
