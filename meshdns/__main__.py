"""``python -m meshdns``: the same as the console script."""

import sys

from meshdns.cli.main import main

sys.exit(main())
