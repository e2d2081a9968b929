"""Self-contained pages for a browser: one style, pictures inside, written whole."""
