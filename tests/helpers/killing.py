"""The client of `kill_server.py`: starts trainings and kills them."""

import json
import subprocess
import sys
from pathlib import Path

KILLED = -9


class Server:
    """The process that starts trainings; see `kill_server.py`."""

    script = "kill_server.py"

    def __init__(self, folder: Path):
        self._log, self._hits = folder / "log", folder / "hits"
        self._hits.touch()
        command = [sys.executable, str(Path(__file__).parent / self.script)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(
        self, root: Path, task: str | None = None, kill: tuple | None = None, workers: int = 1, victim: int = 0
    ) -> list[int]:
        """The exit codes of the processes of one start, of which `victim` is killed."""
        return self.ask({"task": task, "root": str(root), "kill": kill, "workers": workers, "victim": victim})

    def ask(self, job: dict) -> list[int]:
        """The exit codes of a job's processes; one is killed where it should be, if it is."""
        kill, before = job["kill"], self.hits()
        print(json.dumps({**job, "log": str(self._log), "hits": str(self._hits)}), file=self._process.stdin, flush=True)
        codes = json.loads(self._process.stdout.readline())
        assert KILLED in codes or not any(codes), f"{job} ended with {codes}: {self._log.read_text()[-5000:]}"
        at = [kill[0]] if KILLED in codes and kill[0] != "after" else []
        assert self.hits() == before + at
        return codes

    def hits(self) -> list[str]:
        """The points at which processes were killed so far."""
        return self._hits.read_text(encoding="utf-8").splitlines()

    def stop(self) -> None:
        self._process.kill()  # it has nothing to finish
        self._process.communicate()
