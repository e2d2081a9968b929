"""`python -m quarterturn` is `quarterturn`; linked into that folder."""

import sys

from quarterturn.worker.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
