"""KerasTuner's oracles, whose state survives a kill at any moment.

KerasTuner writes one file per trial and one for the oracle, one after the other and in place: a process killed between
two writes, or within one, leaves them inconsistent. It also loses part of what decides the next trial (the random state
of the Bayesian oracle, the queue of the grid). Here the whole state is one file, replaced atomically after each change.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner.engine.trial import Trial

from lightkeras.tuning.trial_files import RESULT, failed_result, trial_folder
from lightkeras.utils import internals
from lightkeras.utils.files import read_json, write_json

ORACLE = "oracle.json"
MAX_WORKERS_LOST = 2  # by one trial, which is then taken for the cause
HEARTBEAT_TIMEOUT = 60.0  # seconds without a heartbeat after which a worker's trial is given to another worker


class Limits(NamedTuple):
    """The limits of a search; None for no limit.

    Attributes:
        trials: Trials to create.
        seconds: Seconds after `begin` during which trials may start.
        epochs: Epochs of all trials together; no trial starts after them.
        failures: Failed trials in a row; no trial starts after them.
    """

    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    failures: int | None = None


_Base: Any = object  # for type checkers: the class is mixed into oracles


class PersistentOracle(_Base):
    """Mixin over KerasTuner's oracles: one file of state, trials of lost workers given to others, limits of the search.

    The results are read from the trials' folders, where they are exact and failures have reasons (KerasTuner's
    messages between processes have float32, and no reasons).

    Attributes:
        folder: The search's folder.
        limits: The limits of the search.
        changed: Called after each change.
    """

    def begin(self, folder: Path, limits: Limits, changed: Callable[[], None]) -> None:
        """Sets the folder and the limits, and loads the state in the folder, if any."""
        self.folder, self.limits, self.changed = folder, limits, changed
        self.verbose = 0
        self.max_consecutive_failed_trials = None  # KerasTuner would raise before it saves
        internals.disable_saving(self)  # `_commit` saves, after everything has changed
        self._mutex, self._began = threading.RLock(), time.monotonic()
        self._workers_lost: dict[str, int] = {}  # by trial
        self._heartbeats: dict[str, float] = {}  # by trial
        self._last_heartbeat, self._stopped = time.monotonic(), False
        if (state := read_json(folder / ORACLE)) is not None:
            self._load(state)

    @property
    def seconds_left(self) -> float | None:
        """Seconds left of the search's time; None without a limit."""
        return None if self.limits.seconds is None else self.limits.seconds - (time.monotonic() - self._began)

    @property
    def budget_exhausted(self) -> bool:
        """Whether the search's time or epochs are used up, so that no trial may start."""
        left, epochs = self.seconds_left, self.limits.epochs
        return (left is not None and left <= 0) or (epochs is not None and self._count_epochs() >= epochs)

    @property
    def failures(self) -> list[Trial]:
        """The failed trials in a row that end the search; empty while there are fewer."""
        most = self.limits.failures or len(self.trials) + 1
        ended = [self.trials[trial_id] for trial_id in self.end_order][-most:]
        return ended if len(ended) == most and all(trial.status == "FAILED" for trial in ended) else []

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended and none will start, or the budget is exhausted."""
        return self.budget_exhausted or (self._stopped and not self.ongoing_trials)

    @property
    def seconds_since_heartbeat(self) -> float:
        """Seconds since the last request of any worker."""
        return time.monotonic() - self._last_heartbeat

    def _count_epochs(self) -> float:
        """Counts the epochs trained by all trials that ended; those copied from an earlier trial count once."""
        results = [(trial, self.result(trial.trial_id) or {}) for trial in self.trials.values()]
        before = [trial.hyperparameters.values.get("tuner/initial_epoch", 0) for trial, _ in results]
        return sum(max(0.0, (r.get("epochs") or 0) - b) for (_, r), b in zip(results, before, strict=True))

    def result(self, trial_id: str) -> Any:
        """Returns the result of a trial that has ended, or None."""
        return read_json(trial_folder(self.folder, trial_id) / RESULT)

    # ---- called by KerasTuner

    def create_trial(self, tuner_id: str) -> Trial:
        """Returns a new trial, one whose worker was lost, or a trial with status IDLE (ask again) or STOPPED (end)."""
        with self._mutex:
            self._last_heartbeat = time.monotonic()
            self._reassign_silent(tuner_id)
            trial = self._next_trial(tuner_id)
            if trial.status == "RUNNING":
                self._heartbeats[trial.trial_id] = time.monotonic()
                self._commit()
            elif trial.status == "STOPPED":
                self._stopped = True
            return trial

    def _next_trial(self, tuner_id: str) -> Trial:
        if self.budget_exhausted or self.failures:
            return Trial(self.get_space(), "", "STOPPED")
        waits = bool(internals.trials_to_retry(self)) or tuner_id in self.ongoing_trials
        done = self.limits.trials is not None and len(self.trials) >= self.limits.trials
        trial = Trial(self.get_space(), "", "STOPPED") if done and not waits else super().create_trial(tuner_id)
        if trial.status == "STOPPED" and self.ongoing_trials:
            trial.status = "IDLE"  # another worker may be lost, and this one then runs its trial
        return trial

    def end_trial(self, trial: Trial) -> None:
        """Reads the result from the trial's folder; ignores a worker whose trial was given to another."""
        with self._mutex:
            if trial.trial_id not in [one.trial_id for one in self.ongoing_trials.values()]:
                return
            result = self.result(trial.trial_id)
            trial.status, trial.message = result["status"], result["reason"]
            super().end_trial(trial)
            self._commit()

    def score_trial(self, trial: Trial) -> None:
        """Sets the score of a trial that completed."""
        result = self.result(trial.trial_id)
        trial.score, trial.best_step = result["score"], result["step"]

    def get_trial(self, trial_id: str) -> Trial:
        """Returns the trial; a worker's request for it is the heartbeat of that trial."""
        with self._mutex:
            self._heartbeats[trial_id] = self._last_heartbeat = time.monotonic()
            return super().get_trial(trial_id)

    # ---- lost workers

    def worker_lost(self, tuner_id: str, reason: str) -> None:
        """Gives the trial of a lost worker to the next worker that asks; the second time, the trial has failed."""
        with self._mutex:
            trial = self.ongoing_trials.get(tuner_id)
            if trial is None:
                return
            self._workers_lost[trial.trial_id] = self._workers_lost.get(trial.trial_id, 0) + 1
            if self.result(trial.trial_id) is not None:
                self.end_trial(trial)
            elif self._workers_lost[trial.trial_id] >= MAX_WORKERS_LOST:
                folder = trial_folder(self.folder, trial.trial_id)
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / RESULT, failed_result(f"{reason}, twice"))
                self.end_trial(trial)
            else:
                internals.trials_to_retry(self).append(self.ongoing_trials.pop(tuner_id).trial_id)
                self._commit()

    def _reassign_silent(self, tuner_id: str) -> None:
        """Takes the trials of workers without a heartbeat away, except from the one that asks."""
        now = time.monotonic()
        for other, trial in list(self.ongoing_trials.items()):
            if other != tuner_id and now - self._heartbeats.get(trial.trial_id, now) > HEARTBEAT_TIMEOUT:
                self.worker_lost(other, f"its worker sent no heartbeat for {HEARTBEAT_TIMEOUT:.0f} seconds")

    # ---- state

    def _commit(self) -> None:
        """Writes the whole state, and reports the change."""
        trials = {name: trial.get_state() for name, trial in self.trials.items()}
        algorithm = self.algorithm_state()
        state = {"oracle": self.get_state(), "own": algorithm, "losses": self._workers_lost, "trials": trials}
        write_json(self.folder / ORACLE, state)
        self.changed()

    def _load(self, state: dict) -> None:
        """Restores the state that `_commit` wrote; the trials that were running then come next."""
        self.trials = {name: Trial.from_state(trial) for name, trial in state["trials"].items()}
        self.set_state(state["oracle"])
        self.set_algorithm_state(state["own"])
        self._workers_lost = state["losses"]
        internals.trials_to_retry(self).extend(trial.trial_id for trial in self.ongoing_trials.values())
        self.ongoing_trials = {}

    def algorithm_state(self) -> dict:
        """Returns the state that decides the next trial and that KerasTuner does not save."""
        return {}

    def set_algorithm_state(self, state: dict) -> None:
        """Restores `algorithm_state`."""


class RandomOracle(PersistentOracle, keras_tuner.oracles.RandomSearchOracle):
    """Random values."""


class HyperbandOracle(PersistentOracle, keras_tuner.oracles.HyperbandOracle):
    """Many trials of few epochs; the best get more epochs (Li et al., http://jmlr.org/papers/v18/16-558.html)."""


class BayesianOracle(PersistentOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    """Values for which a Gaussian process over the scores promises most."""

    def algorithm_state(self):
        return internals.bayesian_state(self)

    def set_algorithm_state(self, state):
        internals.set_bayesian_state(self, state)


class GridOracle(PersistentOracle, keras_tuner.oracles.GridSearchOracle):
    """Every combination; a range without a step has ten values."""

    def algorithm_state(self):
        return internals.grid_state(self)

    def set_algorithm_state(self, state):
        internals.set_grid_state(self, state)


def make_oracle(algorithm: str, **arguments: Any) -> PersistentOracle:
    """Makes the oracle of an algorithm.

    Args:
        algorithm: A key of `ALGORITHMS`.
        arguments: KerasTuner's arguments for it.
    """
    # without `max_trials`: `Limits.trials` may grow when a search is resumed, and the trials' names stay
    unlimited = {} if algorithm == "hyperband" else {"max_trials": None}
    return ALGORITHMS[algorithm](tune_new_entries=False, allow_new_entries=False, **unlimited, **arguments)


ALGORITHMS = {
    "random": RandomOracle, "grid": GridOracle, "bayesian": BayesianOracle, "hyperband": HyperbandOracle,
}  # fmt: skip
