"""Engines: one interface (`base`), one file for each runtime."""
