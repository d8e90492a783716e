"""What each verb does, end to end: a function that returns a result object and writes versioned JSON and assets."""
