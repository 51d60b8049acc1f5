"""What operators do by hand: examine an installation, read and replay dead-letters, look at a user's sequence."""
