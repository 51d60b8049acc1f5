"""The sequence store of one partition: its bytes, the RocksDB handle, the write-back caches, the read-only reader."""
