"""The values that everything speaks in: standard library, no I/O (but reading and writing them as JSON)."""
