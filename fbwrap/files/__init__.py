"""Files that others made: downloaded one by one, weights read by what their first bytes say."""
