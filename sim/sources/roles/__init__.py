"""What the columns of a log are: of known logs by their header, of others by names and contents."""
