"""`python -m lightkeras`: the command line."""

import sys

from lightkeras.cli.main import main

sys.exit(main())
