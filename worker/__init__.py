"""The worker: frames from a stream, scored against a bank of good parts, alerts out. Imports no torch."""
