"""HSTU, its growing vocabulary, the learner, and the snapshots that answer queries; imports two modules of stream/."""
