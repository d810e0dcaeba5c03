"""Somebody who looks at a run's live page: serves it as `lightkeras watch` does, and asks as its script does.

`python -m benchmarks.onlooker RUN` ends with the process that started it.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

from lightkeras.report.watch import make_server

SECONDS = 2.0  # between two questions, as in the page


def look(folder: Path) -> None:
    """Looks until the parent's end."""
    os.nice(19)
    parent, seen = os.getppid(), {}
    with make_server(folder, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        while os.getppid() == parent:
            sections = json.loads(_get(f"{address}/state.json"))["sections"]
            for name in [name for name, digest in sections.items() if seen.get(name) != digest]:
                _get(f"{address}/section/{name}")
            seen = sections
            time.sleep(SECONDS)
        server.shutdown()


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        return answer.read()


if __name__ == "__main__":
    look(Path(sys.argv[1]))
