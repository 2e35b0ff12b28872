"""`python -m speechkit`."""

import sys

from speechkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
