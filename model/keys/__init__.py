"""64-bit keys to rows: the table, who is admitted, who leaves."""
