"""`python -m worker` is `quarterturn`."""

import sys

from worker.cli import main

sys.exit(main())
