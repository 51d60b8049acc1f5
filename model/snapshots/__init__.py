"""The verb `hstu snapshots`: what snapshots there are, and how two of them differ."""
