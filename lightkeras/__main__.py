"""`python -m lightkeras`: the command line."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]  # Python puts the current folder first; `search_current_folder_last` puts it at the end

from lightkeras.cli.main import main

sys.exit(main())
