"""`hstu inspect`: what a log is, and how to replay it."""
