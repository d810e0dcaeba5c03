"""Weights & Biases: the run's parameters, metrics, samples and best checkpoint."""

import html
import os
from pathlib import Path
from typing import Any

from lightkeras.callbacks.sample_writer import sample_kind
from lightkeras.callbacks.tracker import FINISHED, Tracker, TrackerError
from lightkeras.callbacks.wandb_files import last_step
from lightkeras.utils.checks import import_extra, require
from lightkeras.utils.files import read_json, write_json
from lightkeras.utils.paths import Folder

STARTS = "wandb.json"  # in the run's folder: W&B's folders, one of each start, and whether the run has ended
PICTURES, TEXTS = (".png", ".jpg", ".jpeg", ".bmp"), (".txt", ".md", ".csv", ".json")


class WandbLogger(Tracker):
    """Sends the run to Weights & Biases: `pip install 'lightkeras[wandb]'`.

    Settings that are not here are in W&B's environment variables (WANDB_MODE, WANDB_ENTITY, WANDB_DIR, ...). If
    `wandb.init()` was called before, a new run is logged there and stays open. Steps are updates. Pictures and texts
    among the samples are media of their row; the best checkpoint is an artifact of type "model".

    Args:
        project: W&B's project; None for WANDB_PROJECT, or else the name of the task's runs.
        name: The name of the run; None for the name of its folder.
        mode: "online", "offline" or "disabled"; None for WANDB_MODE, or else "online".
        log_model: Send the best checkpoint (or the last, without a monitor) when training has ended.

    Raises:
        ImportError: W&B is not installed.
        TrackerError: W&B does not answer, or needs a login; raised before the first update.
    """

    title = "W&B"

    def __init__(
        self, project: str | None = None, name: str | None = None, mode: str | None = None, log_model: bool = True
    ):
        super().__init__(log_model)
        import_extra("wandb", "wandb")
        known = (None, "online", "offline", "disabled")
        require(mode in known, "mode", '"online", "offline", "disabled" or None', mode)
        self.project, self.name, self.mode = project, name, mode

    def open_run(self, run_id):
        wandb = import_extra("wandb", "wandb")
        active, folder = wandb.run, self.run.folder
        if active is not None and run_id is not None and active.id != run_id:
            raise TrackerError(
                f"Expected W&B's run {run_id} to be open, or none, as this training goes on in it. Received: the open "
                f"run {active.id}. Call wandb.finish() before."
            )
        self._owned = active is None
        mode: Any = self.mode
        self._run = active or wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or folder.parent.name, mode=mode,
            name=self.name or os.environ.get("WANDB_NAME") or folder.name, id=run_id,
            resume="allow" if run_id else None, dir=os.environ.get("WANDB_DIR") or str(Path.cwd()),
        )  # fmt: skip
        starts = read_starts(folder)
        self._folders = starts["folders"] if starts["run_id"] == self._run.id else []
        offline = [last_step(Path(name)) for name in self._folders if self._run.offline]
        self._last = max(0, self._run.starting_step - 1, *offline)
        self._folders = list(dict.fromkeys([*self._folders, self._run.sync_dir]))
        self._note(self._run.id, finished=False)
        return self._run.id

    def send_parameters(self, values):
        self._run.config.update(values, allow_val_change=True)

    def send_row(self, step, values, files):
        if step <= self._last:
            return
        media = {f"samples/{sample_kind(path.name)}": self._to_media(path) for path in files}
        self._run.log(
            {**values, **{name: one for name, one in media.items() if one is not None}}, step=step, commit=True
        )
        self._last = step

    def _to_media(self, path: Path) -> Any:
        """Converts a sample to W&B's media; another file is saved as it is, and None returned."""
        wandb = import_extra("wandb", "wandb")
        if path.suffix.lower() in PICTURES:
            return wandb.Image(str(path))
        if path.suffix.lower() in TEXTS:
            return wandb.Html(f"<pre>{html.escape(path.read_text(encoding='utf-8'))}</pre>")
        self._run.save(str(path), base_path=str(path.parent), policy="now")
        return None

    def send_checkpoint(self, folder):
        wandb = import_extra("wandb", "wandb")
        artifact = wandb.Artifact(f"checkpoint-{self._run.id}", type="model", metadata={"checkpoint": folder.name})
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=["best"])

    def close_run(self, status):
        if self._owned:
            self._run.finish(exit_code=int(status != FINISHED))
        self._note(self._run.id, finished=status == FINISHED)

    def _note(self, run_id: str, finished: bool) -> None:
        known = {"run_id": run_id, "folders": self._folders, "finished": finished}
        write_json(self.run.folder / STARTS, known)

    def is_finished(self, run_id):
        starts = read_starts(self.run.folder)
        return starts["run_id"] == run_id and starts["finished"]


def read_starts(folder: Folder) -> dict[str, Any]:
    """Reads the starts of a run: W&B's run id, its local folder of each start, and whether the run has ended."""
    return read_json(folder / STARTS) or {"run_id": None, "folders": [], "finished": False}
