"""`python -m lightkeras`: the command line."""

import sys

from lightkeras.cli import main

sys.exit(main())
