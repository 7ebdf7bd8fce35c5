"""What people change in runs through the API, beside what the runs' processes say."""
