"""The verb `hstu query`: the answers of a snapshot, on the terminal."""
