"""Tuner: a search over the arguments of a task, its data and the Trainer."""

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pandas
import yaml
from keras_tuner.engine.trial import Trial

from lightkeras.runs.state import differences
from lightkeras.task import TaskModule
from lightkeras.tuning import report, table
from lightkeras.tuning.hypermodel_subject import HP, HyperModelSubject
from lightkeras.tuning.isolated import find_isolated_metric_names, run_isolated_trial
from lightkeras.tuning.keras_tuner_results import KerasTunerResults
from lightkeras.tuning.oracles import ALGORITHMS, ORACLE, Limits, PersistentOracle, make_oracle
from lightkeras.tuning.single import find_metric_names, run_trial
from lightkeras.tuning.space import check_names, extremes, parameter_names, search_space, with_values
from lightkeras.tuning.subjects import MODEL, make_subject, read_subject
from lightkeras.tuning.trial_files import JOB, LOCK, LOG, RESULT, SearchError, trial_folder
from lightkeras.tuning.workers import Client, run_chief, run_workers
from lightkeras.utils.checks import nearest, require, require_choice, require_int, require_number
from lightkeras.utils.environment import has_gpu
from lightkeras.utils.files import locked, read_json, write_json, write_text
from lightkeras.utils.internals import tuner_role
from lightkeras.utils.paths import local_path
from lightkeras.utils.trust import environment

SEARCH = "search.yaml"  # the search's identity, in its folder
DRY_RUN = ".dry"  # folder of the run of one batch
DECIDED_BY_SEARCH = ("trainer.default_root_dir", "trainer.strategy", "trainer.callbacks", "trainer.seed")
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


class Tuner(KerasTunerResults):
    """Searches for the best arguments of a task. Each trial is an ordinary run, in a folder of its own.

    All trials have the Trainer's seed: they differ only in their arguments, and a run with the best configuration
    repeats the best score. To resume a search that was stopped or killed, start the same search in its folder.

    Args:
        task_class: The task; or a function that builds a compiled `keras.Model`, whose arguments have defaults and are
            named `model.NAME` in the space.
            A `keras_tuner.HyperModel` or a function `build(hp)` is searched as it is.
        space: Ranges and choices by argument; see `search_space`. None takes `task_class.search_space`.
        folder: The search's folder: a new one, or that of the same search, which is resumed.
        data_class: Its data's class; None for `task_class.data_module`. For a function: the function that gives the
            data (see `keras_models/README.md`), whose arguments are `data.NAME`; None for `load_data` of its module.
        task, data, trainer: The arguments that are not searched and not the defaults. The Trainer's callbacks are
            `{"class_path": ..., "init_args": ...}`, as in a run's config.yaml.
        algorithm: "random", "grid", "bayesian" or "hyperband". Hyperband gives trials few of the Trainer's
            `max_epochs` at first, and the best ones more; a schedule over the run covers all `max_epochs`.
        objective: Any metric that is logged; None for the task's `monitor`. A trial's score is its best value.
        direction: "min" or "max"; None for that of the task's `monitor`, where it is the objective.
        max_trials: The most trials; Hyperband and the grid can end by themselves with None.
        max_time: Seconds of this search since it was started or resumed. The running trial is then saved, and resumed
            with the search. For a limit per trial, give the Trainer a `max_time`.
        max_epochs: Epochs of all trials together, after which no trial starts.
        factor: Hyperband: one trial in `factor` continues, for `factor` times the epochs.
        iterations: Hyperband: how often its whole schedule runs.
        initial_points: Bayesian search: random trials before it starts; None for three per argument.
        seed: The seed of the search.
        isolate: Whether each trial has a process of its own; "auto": if there is a GPU. With True, the task's module
            must be importable.
        max_failures: Failed trials in a row that end the search.
        trust: Packages whose classes the arguments may name (see `utils.trust`), beside those of task and data.

    Raises:
        ValueError: The space is empty, has an empty range, an unknown argument, or a value that the argument rejects.
        SearchError: The folder holds another search, or lacks the folder of a trial that has ended.
    """

    def __init__(
        self, task_class: type[TaskModule] | Callable[..., keras.Model], space: Any = None, *,
        folder: str | os.PathLike, data_class: type | Callable | None = None, task: dict | None = None,
        data: dict | None = None, trainer: dict | None = None,
        algorithm: str = "random", objective: str | None = None, direction: str | None = None,
        max_trials: int | None = 20, max_time: float | None = None, max_epochs: float | None = None,
        factor: int = 3, iterations: int = 1, initial_points: int | None = None, seed: int = 0,
        isolate: bool | str = "auto", max_failures: int = 3, trust: Iterable[str] = (),
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
        self.subject = make_subject(task_class, data_class, trust)
        self._hypermodel = self.subject if isinstance(self.subject, HyperModelSubject) else None
        if self._hypermodel:
            self._hypermodel.give_data(data or {})
            ok = self._hypermodel.importable or isolate is not True
            require(ok, "isolate", "False, or HyperModel and data_class of a module, by their names", isolate)
            isolate = isolate if self._hypermodel.importable else False
        self.task_class, self.data_class = task_class, self.subject.data_class
        self.folder, self.algorithm, self.seed = local_path(folder), algorithm, seed
        self.max_trials, self.max_time, self.max_epochs = max_trials, max_time, max_epochs
        self.isolate, self.max_failures = has_gpu() if isolate == "auto" else isolate, max_failures
        self.space = search_space(self.subject.search_space if space is None else space)
        self._algorithm_options = {"factor": factor, "iterations": iterations, "initial_points": initial_points}
        self.objective, self.direction = self._choose_objective(objective, direction)
        self._environment = environment(self.subject.trust)
        given = {self.subject.task_group: task or {}, "data": data or {}, "trainer": trainer or {}}
        self.config = self._validate_config(given)
        self.interrupted: int | None = None
        self.oracle = self._new_oracle()

    def _choose_objective(self, objective: str | None, direction: str | None) -> tuple[str, str]:
        monitor, mode = self.subject.monitor
        objective = objective or monitor
        direction = direction or (mode if objective == monitor else None)
        require(direction in ("min", "max"), "direction", f'"min" or "max", for {objective}', direction)
        return objective, str(direction)

    def _validate_config(self, given: dict[str, dict]) -> dict[str, dict]:
        """Returns every argument, defaults included; tries the values of the space on the arguments' types."""
        hyperband = ("trainer.max_epochs",) if self.algorithm == "hyperband" else ()
        if not self._hypermodel:
            check_names(self.space, self.subject.groups, (*DECIDED_BY_SEARCH, *hyperband))
        given = {**given, "trainer": {**QUIET, **given["trainer"]}}
        config = self.subject.validate(given)
        for parameter in () if self._hypermodel else self.space.space:
            for value in extremes(parameter):
                self.subject.validate(with_values(config, {parameter.name: value}))
        trainer = config["trainer"]
        for name, needed in (("enable_checkpointing", True), ("fast_dev_run", False)):
            require(trainer[name] == needed, f"trainer.{name}", f"{needed} in a search", trainer[name])
        several = trainer["strategy"] == "multi_worker"
        require(not several, "trainer.strategy", '"auto" or "mirrored": a trial has one process', trainer["strategy"])
        self._check_end(trainer)
        return config

    def _check_end(self, trainer: dict) -> None:
        """Rejects trials without an end."""
        limits = ("max_epochs",) if self.algorithm == "hyperband" else ("max_epochs", "max_steps", "max_time")
        searched = parameter_names(self.space)
        ends = any(trainer[name] or f"trainer.{name}" in searched for name in limits)
        require(ends, "trainer.max_epochs", "a positive int: the epochs of a trial", trainer["max_epochs"])

    def _new_oracle(self) -> PersistentOracle:
        options, given = self._algorithm_options, {"seed": self.seed + 1}  # KerasTuner takes 0 for none
        if self.algorithm == "hyperband":
            given |= {"max_epochs": self.config["trainer"]["max_epochs"], "factor": options["factor"]}
            given["hyperband_iterations"] = options["iterations"]
        elif self.algorithm == "bayesian":
            given["num_initial_points"] = options["initial_points"]
        objective = keras_tuner.Objective(self.objective, self.direction)
        return make_oracle(self.algorithm, objective=objective, hyperparameters=self.space.copy(), **given)

    # ---- the search

    def search(self, workers: int = 1) -> pandas.DataFrame:
        """Runs or resumes the search, until it is over or stopped.

        In a process with KerasTuner's environment (KERASTUNER_TUNER_ID, ...) this is the chief, which has the oracle
        and runs no trial, or one of its workers.

        Args:
            workers: Processes that run trials at the same time on this machine. The task's module must be importable.

        Returns:
            The trials, as in trials.csv.

        Raises:
            ValueError: The objective is not logged (the message lists the metrics), or a run of one batch fails.
            SearchError: `max_failures` trials failed one after the other.
            BlockingIOError: Another process runs this search.
        """
        require_int("workers", workers)
        require(workers == 1 or self.subject.importable, "workers", "1, unless HyperModel and data have names", workers)
        role = tuner_role()
        require(role is None or workers == 1, "workers", f"1 in a {role} by KERASTUNER_TUNER_ID", workers)
        if role == "worker":
            self._work_for_chief()
            return self.trials()
        with locked(self.folder / LOCK, wait=False):
            self.open()
            files = report.Report(self)
            with table.live(self) as show:
                self.begin(changed=lambda: (show(), files.write()))
                self._run(role, workers)
            files.write(last=True)
        self._check_failures()
        return self.trials()

    def _run(self, role: str | None, workers: int) -> None:
        if role == "chief":
            run_chief(self.oracle)
        elif workers > 1:
            self.interrupted = run_workers(self.oracle, self.folder, workers, self.max_time, self._environment)
        else:
            self._run_trials(self.oracle, "tuner0")

    def _work_for_chief(self) -> None:
        self.begin(changed=lambda: None)
        client = Client(self.oracle)
        self.open()  # the chief has written the search's identity
        self._run_trials(client, client.tuner_id)

    def open(self) -> None:
        """Creates the folder and checks the objective; or checks that the folder holds this search."""
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
        others = [file.name for file in self.folder.iterdir() if not file.name.startswith(".")]
        if others:
            found = ", ".join(sorted(others)[:3])
            raise SearchError(f"Expected {self.folder} to be empty, or to hold a search. Received: it holds {found}")
        self._check_logged()
        write_text(path, yaml.safe_dump(now, sort_keys=False, allow_unicode=True))

    def identity(self) -> dict:
        """Returns what may not change when the search is resumed; its limits may."""
        return {
            "algorithm": self.algorithm, **self._algorithm_options, "objective": self.objective,
            "direction": self.direction, "seed": self.seed, "config": self.subject.written(self.config),
            "space": self.space.get_config(),
        }  # fmt: skip

    def _check_folders(self) -> None:
        """Rejects a search that lacks the folder of an ended trial."""
        for trial_id, trial in ((read_json(self.folder / ORACLE) or {}).get("trials") or {}).items():
            there = (trial_folder(self.folder, trial_id) / RESULT).exists()
            if trial["status"] in ("COMPLETED", "FAILED") and not there:
                raise SearchError(
                    f"Expected the folder of trial {trial_id}, which has ended, to be there. Received: "
                    f"{trial_folder(self.folder, trial_id)} is gone, or its {RESULT}. Put it back, or start a new "
                    "search in another folder."
                )

    def _check_logged(self) -> None:
        """Rejects an objective that a run of one batch does not log."""
        job = self._job(self.space.values, None)
        if self.isolate:
            folder = self.folder / DRY_RUN
            folder.mkdir(exist_ok=True)
            write_json(folder / JOB, job)
            names = find_isolated_metric_names(folder, self._environment)
        else:
            names = find_metric_names(job, self.subject.trust, self._hypermodel)
        listed, hint = ", ".join(names), nearest(self.objective, names)
        require(self.objective in names, "objective", f"one of {listed}.{hint}", self.objective)

    def begin(self, changed: Callable[[], Any]) -> None:
        """Gives the oracle its limits and the saved state; `changed` is called after every change."""
        limits = Limits(self.max_trials, self.max_time, self.max_epochs, self.max_failures)
        self.oracle.begin(self.folder, limits, changed)

    def _run_trials(self, oracle: PersistentOracle | Client, tuner_id: str) -> None:
        """Asks for trials and runs them, until there is none or a signal is received."""
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
        """Runs or resumes a trial; see `run_trial`."""
        folder = trial_folder(self.folder, trial.trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, self._job(trial.hyperparameters.values, self.folder))
        left = self.oracle.seconds_left if seconds is None else seconds
        if self.isolate:
            return run_isolated_trial(folder, left, self._environment)
        return run_trial(folder, left, self.subject.trust, self._hypermodel)

    def _job(self, values: dict[str, Any], folder: Path | None) -> dict:
        """Describes a trial, as JSON."""
        earlier = values.get("tuner/trial_id")
        return {
            "config": self.subject.written(self._choose(values)), "objective": self.objective,
            "direction": self.direction,
            "max_epochs": values.get("tuner/epochs"),
            "continues": None if earlier is None else str(trial_folder(folder or self.folder, earlier)),
        }  # fmt: skip

    def _check_failures(self) -> None:
        if failed := self.oracle.failures:
            log = trial_folder(self.folder, failed[-1].trial_id) / LOG
            raise SearchError(
                f"Expected fewer than {len(failed)} trials in a row to fail. Received: {failed[-1].message} "
                f"({log} has all of it)"
            )

    # ---- results

    def trials(self) -> pandas.DataFrame:
        """Returns a row per trial: status, score, updates at the score, epochs, seconds, arguments, run and reason."""
        return report.tabulate(self.oracle, self.space)

    def best_trial(self) -> Trial:
        """Returns the trial with the best score.

        Raises:
            SearchError: No trial has completed.
        """
        completed = [trial for trial in self.oracle.get_best_trials() if trial.status == "COMPLETED"]
        if not completed:
            raise SearchError(f"Expected a completed trial in {self.folder}. Received: there is none")
        return completed[0]

    def best_config(self) -> dict:
        """Returns the best trial's configuration, for `lightkeras fit --config`."""
        config = self._choose(self.best_trial().hyperparameters.values)
        quiet = dict.fromkeys(QUIET, True)
        return self.subject.command_config({**config, "trainer": {**config["trainer"], **quiet}})

    def best_task(self) -> Any:
        """Loads the best trial's task, or model, with its best weights.

        Raises:
            SearchError: No trial has completed, or its folder is gone.
        """
        return self.load_trained(self.best_trial())

    def load_trained(self, trial: Trial) -> Any:
        """Loads the task, or model, of a trial with its best weights."""
        config = self._choose(trial.hyperparameters.values)
        return self.subject.load(trial_folder(self.folder, trial.trial_id), config)

    def _choose(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments of a trial."""
        if self._hypermodel:
            return self._hypermodel.choose(self.config, values, self.space)
        return with_values(self.config, values)

    @classmethod
    def load(cls, folder: str | os.PathLike, trust: Iterable[str] = (), **limits: Any) -> "Tuner":
        """Loads the search in a folder, with all its trials.

        Args:
            folder: The search's folder.
            trust: Packages whose classes the search may name (see `utils.trust`).
            limits: max_trials, max_time, max_epochs, isolate and max_failures, to resume it.

        Raises:
            SearchError: The folder holds no search.
        """
        path = local_path(folder) / SEARCH
        if not path.exists():
            raise SearchError(f"Expected a search in {folder}. Received: there is no {path}")
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = ("algorithm", "objective", "direction", "seed", "factor", "iterations", "initial_points")
        subject, arguments = read_subject(known["config"], trust)
        given = {**arguments, "task": arguments.get(subject.task_group)}
        given.pop(MODEL, None)
        given.pop(HP, None)
        tuner = cls(
            subject.given, keras_tuner.HyperParameters.from_config(known["space"]), folder=folder,
            data_class=subject.data_class, **given, **{name: known[name] for name in names}, **limits,
            trust=trust,
        )  # fmt: skip
        tuner.begin(changed=lambda: None)
        return tuner
