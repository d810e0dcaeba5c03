"""MLflow: the run's parameters, metrics, samples and best checkpoint."""

import math
import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lightkeras.callbacks.log_values import is_speed
from lightkeras.callbacks.tracker import Tracker, TrackerError
from lightkeras.utils.checks import import_extra, require
from lightkeras.utils.messages import logger

LONGEST_NAME, LONGEST_VALUE, MOST_PARAMETERS = 250, 6000, 100  # characters; in one call
SAMPLES = "samples"
ANSWERS_WITHIN = 20.0  # seconds
RETRIED = (408, 429)  # HTTP codes below 500 after which the same call may succeed


class MLflowLogger(Tracker):
    """Sends the run to MLflow: `pip install 'lightkeras[mlflow]'`.

    If `mlflow.start_run()` has an active run, a new run is logged there. Characters that MLflow refuses in names become
    "_", and a value of more than 6,000 characters is cut; `config.yaml`, which has it whole, is an artifact. Samples
    are artifacts in `samples/`, the best checkpoint is in `checkpoint/`.

    Args:
        experiment_name: MLflow's experiment; None for MLFLOW_EXPERIMENT_NAME, or else the name of the task's runs.
        run_name: The name of the run; None for the name of its folder.
        tracking_uri: Where MLflow keeps runs; None for `mlflow.set_tracking_uri`, MLFLOW_TRACKING_URI, or MLflow's own.
        log_model: Send the best checkpoint (or the last, without a monitor) when training has ended.

    Raises:
        ImportError: MLflow is not installed.
        TrackerError: MLflow does not answer, or takes no run; raised before the first update.
    """

    title = "MLflow"

    def __init__(
        self, experiment_name: str | None = None, run_name: str | None = None, tracking_uri: str | None = None,
        log_model: bool = True,
    ):  # fmt: skip
        super().__init__(log_model)
        _import("mlflow")
        for name in ("experiment_name", "run_name", "tracking_uri"):
            value = locals()[name]
            require(value is None or (isinstance(value, str) and value != ""), name, "a name or None", value)
        self.experiment_name, self.run_name, self.tracking_uri = experiment_name, run_name, tracking_uri

    def open_run(self, run_id):
        self._client = _connect(self.tracking_uri)
        self._names: dict[str, str] = {}
        self._sent: dict[str, dict[int, float]] = {}
        self._artifacts: set[str] = set()
        self._resumed, self._owned, self._told = run_id is not None, True, False
        if run_id is None:
            return self._create_run()
        if self._client.get_run(run_id).info.lifecycle_stage != "active":
            raise TrackerError(
                f"Expected MLflow's run {run_id}, in which this training goes on. Received: it was deleted. Restore "
                "it, or resume the training without MLflow"
            )
        self._client.update_run(run_id, status="RUNNING")
        self._artifacts = {PurePosixPath(file.path).name for file in self._client.list_artifacts(run_id, SAMPLES)}
        return run_id

    def _create_run(self) -> str:
        active = _import("mlflow").active_run()
        if active is not None and self.tracking_uri is None:
            self._owned = False
            return active.info.run_id
        folder = self.run.folder
        name = self.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or folder.parent.name
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = _import("mlflow.tracking.context.registry").resolve_tags({"lightkeras.run": str(folder)})
        return self._client.create_run(experiment_id, run_name=self.run_name or folder.name, tags=tags).info.run_id

    def send_parameters(self, values):
        entities = _import("mlflow.entities")
        names: dict[str, str] = {}
        params = [entities.Param(clean_name(name, names), _shorten(value)) for name, value in values.items()]
        for first in range(0, len(params), MOST_PARAMETERS):
            self._client.log_batch(self.run_id, params=params[first : first + MOST_PARAMETERS])
        self._client.log_text(self.run_id, (self.run.folder / "config.yaml").read_text(encoding="utf-8"), "config.yaml")

    def send_row(self, step, values, files):
        entities = _import("mlflow.entities")
        now = int(time.time() * 1000)
        named = {clean_name(name, self._names): float(value) for name, value in values.items()}
        new = [
            entities.Metric(name, value, now, step) for name, value in named.items() if self._is_new(name, value, step)
        ]
        if new:
            self._client.log_batch(self.run_id, metrics=new)
            for metric in new:
                self._sent[metric.key][step] = metric.value
        for path in (path for path in files if path.name not in self._artifacts):
            self._client.log_artifact(self.run_id, str(path), SAMPLES)
            self._artifacts.add(path.name)

    def _is_new(self, name: str, value: float, step: int) -> bool:
        """Returns whether MLflow lacks the value, which a killed run may have sent; warns if it has another."""
        if name not in self._sent:
            there = self._client.get_metric_history(self.run_id, name) if self._resumed else []
            self._sent[name] = {metric.step: metric.value for metric in there}
        if step not in self._sent[name]:
            return True
        before = self._sent[name][step]
        same = math.isclose(before, value, rel_tol=1e-6) or math.isnan(before) or math.isinf(value)
        if not same and not is_speed(name) and not self._told:
            self._told = True
            logger.warning(
                "MLflow keeps the %s of update %d, %r, that this run sent before it was stopped. It is %r now that the "
                "update was made again.", name, step, before, value,
            )  # fmt: skip
        return False

    def send_checkpoint(self, folder):
        self._client.log_artifacts(self.run_id, str(folder), f"checkpoint/{folder.name}")

    def close_run(self, status):
        if self._owned:
            self._client.set_terminated(self.run_id, status)

    def is_finished(self, run_id):
        return _connect(self.tracking_uri).get_run(run_id).info.status == "FINISHED"

    def is_final(self, error):
        code = getattr(error, "get_http_status_code", lambda: 500)()  # an MlflowException has it
        return super().is_final(error) or (400 <= code < 500 and code not in RETRIED)


def clean_name(name: str, names: dict[str, str]) -> str:
    """Returns the name of a metric or parameter as MLflow takes it, and notes it in `names`: no two are the same."""
    if name not in names:
        parts = re.sub(r"[^\w\-./ ]", "_", name).split("/")
        clean = base = "/".join(part for part in parts if part.strip(". "))[: LONGEST_NAME - 4] or "_"
        number = 1
        while clean in names.values():
            number += 1
            clean = f"{base}_{number}"
        names[name] = clean
    return names[name]


def _import(name: str) -> Any:
    return import_extra("mlflow", name)


def _shorten(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 3]}..."


def _connect(tracking_uri: str | None) -> Any:
    """Returns MLflow's client, if its server answers, or its database can be written.

    MLflow itself tries a server for minutes.
    """
    mlflow, requests = _import("mlflow"), _import("requests")
    uri = tracking_uri or mlflow.get_tracking_uri()
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        try:
            requests.head(uri, timeout=ANSWERS_WITHIN)
        except requests.RequestException as error:
            raise TrackerError(f"Expected MLflow's server at {uri} to answer. Received: {error}") from error
    if parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        folder = path.parent
        target = path if path.exists() else folder
        ok = folder.is_dir() and os.access(target, os.W_OK)
        require(ok, "tracking_uri", "a database in an existing folder that can be written", uri)
    return mlflow.MlflowClient(tracking_uri=uri)
