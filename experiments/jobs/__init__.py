"""What a job is, where its output lies, and what identifies it."""
