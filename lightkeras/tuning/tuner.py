"""Tuner: a search over the arguments of a task, its data and the Trainer."""

import json
import os
import time
from pathlib import Path
from typing import Any

import keras_tuner
import pandas
import yaml
from keras_tuner.engine.trial import Trial

from lightkeras.configuration import Configuration, to_written
from lightkeras.runs.folder import newest_run, task_name
from lightkeras.runs.state import differences
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.tuning import report, table
from lightkeras.tuning import workers as parallel
from lightkeras.tuning.isolated import isolated_names, run_isolated
from lightkeras.tuning.oracles import ALGORITHMS, ORACLE, KeptOracle, Limits, make_oracle
from lightkeras.tuning.single import metric_names, run_trial
from lightkeras.tuning.space import check_names, configured, extremes, search_space
from lightkeras.utils.checks import LightkerasError, nearest, require, require_choice, require_int, require_number
from lightkeras.utils.environment import has_gpu
from lightkeras.utils.files import JOB, LOG, RESULT, locked, read_json, trial_folder, write_json, write_text

SEARCH = "search.yaml"  # what the search is, in its folder
TAKEN = ("trainer.default_root_dir", "trainer.strategy", "trainer.callbacks", "trainer.seed")
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


class SearchError(LightkerasError, ValueError):
    """The search cannot go on."""


class Tuner:
    """Searches for the arguments with which a task does best. Each trial is an ordinary run, in a folder of its own.

    All trials have the Trainer's seed, so that they differ in their arguments alone, and the best one's configuration
    gives its score again. A search that is stopped or killed goes on when the same one is asked for in its folder.

    Args:
        task_class: The task.
        space: What is searched; see `search_space`. None takes `task_class.search_space`.
        folder: The search's folder: a new one, or that of this very search, which goes on.
        data_class: Its data's class; None for `task_class.data_module`.
        task, data, trainer: The arguments that are not searched, where they are not the defaults. The Trainer's
            callbacks are `{"class_path": ..., "init_args": ...}`, as in a run's config.yaml.
        algorithm: "random", "grid", "bayesian" or "hyperband". Hyperband gives trials few of the Trainer's
            `max_epochs` at first, and the best ones more; a schedule over the run is over all of them.
        objective: Any metric that is logged; None for the task's `monitor`. A trial's score is its best value.
        direction: "min" or "max"; None for that of the task's `monitor`, where it is the objective.
        max_trials: Trials at most; Hyperband and the grid end by themselves, and None leaves it to them.
        max_time: Seconds of this search from its (re)start on. The trial that runs then is saved, and goes on when the
            search does. For a limit per trial, give the Trainer a `max_time`.
        max_epochs: Epochs of all trials together, after which none begins.
        factor: Hyperband's: a trial in so many goes on, for so many times the epochs.
        iterations: Hyperband's: how often it is run through.
        initial_points: The Bayesian search's: trials at random before it; None for three per argument.
        seed: Of the search.
        isolate: Whether each trial has a process of its own: "auto" where there is a GPU. True for tasks that can be
            imported alone.
        max_failures: So many trials in a row that fail end the search.

    Raises:
        ValueError: The space is empty or upside down, names an argument that there is not, or a value that cannot be.
        SearchError: The folder holds another search, or lacks the folder of a trial that has ended.
    """

    def __init__(
        self, task_class: type[TaskModule], space: Any = None, *, folder: str | os.PathLike,
        data_class: type | None = None, task: dict | None = None, data: dict | None = None, trainer: dict | None = None,
        algorithm: str = "random", objective: str | None = None, direction: str | None = None,
        max_trials: int | None = 20, max_time: float | None = None, max_epochs: float | None = None,
        factor: int = 3, iterations: int = 1, initial_points: int | None = None, seed: int = 0,
        isolate: bool | str = "auto", max_failures: int = 3,
    ):  # fmt: skip
        require_choice("algorithm", algorithm, ALGORITHMS)
        require_int("max_trials", max_trials, optional=True)
        ends = max_trials is not None or max_time is not None or max_epochs is not None
        require(
            ends or algorithm in ("grid", "hyperband"), "max_trials", "a positive int, or another limit", max_trials
        )
        require_number("max_time", max_time, optional=True)
        require_number("max_epochs", max_epochs, optional=True)
        require_int("factor", factor, minimum=2)
        require_int("iterations", iterations)
        require_int("initial_points", initial_points, optional=True)
        require_int("seed", seed, minimum=0)
        require_choice("isolate", isolate, (True, False, "auto"))
        require_int("max_failures", max_failures)
        self.task_class, self.data_class = task_class, data_class or task_class.data_module
        self.folder, self.algorithm, self.seed = Path(folder), algorithm, seed
        self.max_trials, self.max_time, self.max_epochs = max_trials, max_time, max_epochs
        self.isolate, self.max_failures = has_gpu() if isolate == "auto" else isolate, max_failures
        self.space = search_space(getattr(task_class, "search_space", None) if space is None else space)
        self._of_algorithm = {"factor": factor, "iterations": iterations, "initial_points": initial_points}
        self.objective, self.direction = self._checked_objective(objective, direction)
        self._configuration = Configuration(self.task_class, self.data_class)
        self.config = self._checked_config({"task": task or {}, "data": data or {}, "trainer": trainer or {}})
        self.interrupted: int | None = None
        self.oracle = self._new_oracle()

    def _checked_objective(self, objective: str | None, direction: str | None) -> tuple[str, str]:
        monitor, mode = self.task_class.monitor
        objective = objective or monitor
        direction = direction or (mode if objective == monitor else None)
        require(direction in ("min", "max"), "direction", f'"min" or "max", for {objective}', direction)
        return objective, direction

    def _checked_config(self, given: dict[str, dict]) -> dict[str, dict]:
        """Every argument, defaults included, with every value of the space tried on their types."""
        classes = {"task": self.task_class, "data": self.data_class, "trainer": Trainer}
        hyperband = ("trainer.max_epochs",) if self.algorithm == "hyperband" else ()
        check_names(self.space, classes, (*TAKEN, *hyperband))
        given = {**given, "trainer": {**QUIET, **given["trainer"]}}
        config = self._configuration.validate(given)
        for parameter in self.space.space:
            for value in extremes(parameter):
                self._configuration.validate(configured(config, {parameter.name: value}))
        trainer = config["trainer"]
        for name, needed in (("enable_checkpointing", True), ("fast_dev_run", False)):
            require(trainer[name] == needed, f"trainer.{name}", f"{needed} in a search", trainer[name])
        several = trainer["strategy"] == "multi_worker"
        require(not several, "trainer.strategy", '"auto" or "mirrored": a trial has one process', trainer["strategy"])
        self._check_end(trainer)
        return config

    def _check_end(self, trainer: dict) -> None:
        """Refuses trials without an end."""
        limits = ("max_epochs",) if self.algorithm == "hyperband" else ("max_epochs", "max_steps", "max_time")
        searched = {parameter.name.removeprefix("trainer.") for parameter in self.space.space}
        ends = any(trainer[name] or name in searched for name in limits)
        require(ends, "trainer.max_epochs", "a positive int: the epochs of a trial", trainer["max_epochs"])

    def _new_oracle(self) -> KeptOracle:
        own, given = self._of_algorithm, {"seed": self.seed + 1}  # KerasTuner takes 0 for none
        if self.algorithm == "hyperband":
            given |= {"max_epochs": self.config["trainer"]["max_epochs"], "factor": own["factor"]}
            given["hyperband_iterations"] = own["iterations"]
        elif self.algorithm == "bayesian":
            given["num_initial_points"] = own["initial_points"]
        objective = keras_tuner.Objective(self.objective, self.direction)
        return make_oracle(self.algorithm, objective=objective, hyperparameters=self.space.copy(), **given)

    # ---- the search

    def search(self, workers: int = 1) -> pandas.DataFrame:
        """Runs the search, or goes on with it, until it is over or stopped.

        In a process with KerasTuner's environment (KERASTUNER_TUNER_ID, ...) it is the chief, which has the oracle and
        runs no trial, or a worker of it.

        Args:
            workers: Processes that run trials at the same time on this machine. The task must be one that can be
                imported alone.

        Returns:
            The trials, as in trials.csv.

        Raises:
            ValueError: The objective is not logged; what is, is listed. Or a run of one batch fails.
            SearchError: `max_failures` trials failed one after the other.
        """
        require_int("workers", workers)
        role = parallel.role()
        require(role is None or workers == 1, "workers", f"1 in a {role} by KERASTUNER_TUNER_ID", workers)
        if role == "worker":
            self._be_worker()
            return self.trials()
        with locked(self.folder, False, "the search's folder"):
            self.open()
            with table.live(self) as show:
                self.begin(changed=lambda: self._changed(show))
                self._lead(role, workers)
            self._write()
        self._check_failures()
        return self.trials()

    def _lead(self, role: str | None, workers: int) -> None:
        if role == "chief":
            parallel.serve(self.oracle)
        elif workers > 1:
            self.interrupted = parallel.lead(self.oracle, self.folder, workers, self.max_time)
        else:
            self._work(self.oracle, "tuner0")

    def _be_worker(self) -> None:
        self.begin(changed=lambda: None)
        client = parallel.Client(self.oracle)
        self.open()  # the chief has written what the search is
        self._work(client, client.tuner_id)

    def open(self) -> None:
        """Makes the folder, or finds that it is this search's; then checks the objective."""
        self.folder.mkdir(parents=True, exist_ok=True)
        now = json.loads(json.dumps(self.identity()))
        path = self.folder / SEARCH
        if path.exists():
            then = yaml.safe_load(path.read_text(encoding="utf-8"))
            if changes := [f"{name}: {change}" for name, change in differences(now, then)]:
                raise SearchError(
                    f"Expected {self.folder} to be a new folder, or to hold this search. Received: it holds another "
                    f"one: {'; '.join(changes[:5])}"
                )
            self._check_folders()
            return
        others = [file.name for file in self.folder.iterdir() if file.name not in (".lock", ".dry")]
        if others:
            found = ", ".join(sorted(others)[:3])
            raise SearchError(f"Expected {self.folder} to be empty, or to hold a search. Received: it holds {found}")
        self._check_logged()
        write_text(path, yaml.safe_dump(now, sort_keys=False, allow_unicode=True))

    def identity(self) -> dict:
        """What the search is: its limits may change when it goes on, this may not."""
        return {
            "algorithm": self.algorithm, **self._of_algorithm, "objective": self.objective,
            "direction": self.direction, "seed": self.seed, "config": self._written(self.config),
            "space": self.space.get_config(),
        }  # fmt: skip

    def _check_folders(self) -> None:
        """Refuses to go on without what an ended trial has left."""
        for trial_id, trial in ((read_json(self.folder / ORACLE) or {}).get("trials") or {}).items():
            there = (trial_folder(self.folder, trial_id) / RESULT).exists()
            if trial["status"] in ("COMPLETED", "FAILED") and not there:
                raise SearchError(
                    f"Expected the folder of trial {trial_id}, which has ended, to be there. Received: "
                    f"{trial_folder(self.folder, trial_id)} is gone, or its {RESULT}. Put it back, or begin a new "
                    "search in another folder."
                )

    def _check_logged(self) -> None:
        """Refuses an objective that a run does not log, found by a run of one batch."""
        job = self._job(self.space.values, None)
        if self.isolate:
            folder = self.folder / ".dry"
            folder.mkdir(exist_ok=True)
            write_json(folder / JOB, job)
            names = isolated_names(folder)
        else:
            names = metric_names(job)
        listed, hint = ", ".join(names), nearest(self.objective, names)
        require(self.objective in names, "objective", f"one of {listed}.{hint}", self.objective)

    def begin(self, changed: Any) -> None:
        """Gives the oracle its state and its limits."""
        limits = Limits(self.max_trials, self.max_time, self.max_epochs, self.max_failures)
        self.oracle.begin(self.folder, limits, changed)

    def _work(self, oracle: Any, tuner_id: str) -> None:
        """Asks for trials and runs them, until there is none or a signal comes."""
        while True:
            trial = oracle.create_trial(tuner_id)
            if trial.status == "STOPPED":
                return
            if trial.status == "IDLE":
                time.sleep(0.5)
                continue
            result = self.run(trial)
            if result["status"] == "UNFINISHED":
                self.interrupted = result["signal"]
                return
            trial.status = result["status"]
            oracle.end_trial(trial)

    def run(self, trial: Trial, seconds: float | None = None) -> dict:
        """Runs a trial, or goes on with it; see `run_trial`."""
        folder = trial_folder(self.folder, trial.trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, self._job(trial.hyperparameters.values, self.folder))
        left = self.oracle.seconds_left if seconds is None else seconds
        return (run_isolated if self.isolate else run_trial)(folder, left)

    def _job(self, values: dict[str, Any], folder: Path | None) -> dict:
        """What a trial is, as JSON."""
        earlier = values.get("tuner/trial_id")
        return {
            "config": self._written(configured(self.config, values)), "objective": self.objective,
            "direction": self.direction,
            "max_epochs": values.get("tuner/epochs"),
            "continues": None if earlier is None else str(trial_folder(folder, earlier)),
        }  # fmt: skip

    def _changed(self, show: Any) -> None:
        show()
        self._write()

    def _check_failures(self) -> None:
        if failed := self.oracle.failures:
            log = trial_folder(self.folder, failed[-1].trial_id) / LOG
            raise SearchError(
                f"Expected fewer than {len(failed)} trials in a row to fail. Received: {failed[-1].message} "
                f"({log} has all of it)"
            )

    # ---- what came out

    def trials(self) -> pandas.DataFrame:
        """A row per trial: its status, score, updates at the score, epochs, seconds, arguments, run and reason."""
        return report.frame(self.oracle, self.space)

    def best_trial(self) -> Trial:
        """The trial with the best score.

        Raises:
            SearchError: None has ended well.
        """
        ended = [trial for trial in self.oracle.get_best_trials() if trial.status == "COMPLETED"]
        if not ended:
            raise SearchError(f"Expected a trial that has ended well in {self.folder}. Received: there is none")
        return ended[0]

    def best_config(self) -> dict:
        """The best trial's configuration, which `lightkeras fit --config` takes."""
        config = configured(self.config, self.best_trial().hyperparameters.values)
        quiet = dict.fromkeys(QUIET, True)
        return self._written({**config, "trainer": {**config["trainer"], **quiet}})

    def _written(self, config: dict[str, dict]) -> dict[str, dict]:
        return to_written(config, self.task_class, self.data_class)

    def best_task(self) -> TaskModule:
        """The best trial's task with its best weights.

        Raises:
            SearchError: No trial has ended well, or its folder is gone.
        """
        folder = trial_folder(self.folder, self.best_trial().trial_id)
        run = newest_run(folder, task_name(self.task_class))
        if run is None:
            raise SearchError(f"Expected the run of the best trial in {folder}. Received: none is there")
        return TaskModule.load_from_checkpoint(run)

    def _write(self) -> None:
        """Brings trials.csv, best_config.yaml, TensorBoard and the page up to date."""
        report.write(self)

    @classmethod
    def load(cls, folder: str | os.PathLike, **limits: Any) -> "Tuner":
        """The search that lies in a folder, with all its trials.

        Args:
            folder: The search's folder.
            limits: max_trials, max_time, max_epochs, isolate and max_failures, if it is to go on.

        Raises:
            SearchError: No search lies there.
        """
        path = Path(folder) / SEARCH
        if not path.exists():
            raise SearchError(f"Expected a search in {folder}. Received: there is no {path}")
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = ("algorithm", "objective", "direction", "seed", "factor", "iterations", "initial_points")
        configuration, arguments = Configuration.read(known["config"])
        tuner = cls(
            configuration.task_class, keras_tuner.HyperParameters.from_config(known["space"]), folder=folder,
            data_class=configuration.data_class, **arguments, **{name: known[name] for name in names}, **limits,
        )  # fmt: skip
        tuner.begin(changed=lambda: None)
        return tuner
