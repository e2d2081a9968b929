"""The running worker: put together, kept going, watched."""
