"""Tables on disk, of any format, as batches of rows."""
