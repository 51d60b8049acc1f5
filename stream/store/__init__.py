"""The sequence store of one partition: its bytes, the RocksDB handle, the write-back cache, the read-only reader."""
