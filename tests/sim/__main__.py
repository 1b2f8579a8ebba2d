"""The door of long runs: see long.py."""

import sys

from tests.sim.long import main

if __name__ == "__main__":
    sys.exit(main())
