"""The operating system: files, processors, page residency, logging."""
