"""Pictures: which a folder holds, of what, and their pixels. Training and serving share it."""
