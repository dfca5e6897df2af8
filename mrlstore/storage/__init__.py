"""What a process sees of a store: parts, segments, the tail, snapshots and the session."""
