"""KerasTuner's oracles, whose state survives a kill at any moment.

KerasTuner writes a file per trial and one for the oracle, one after the other and in place: a process that is killed in
between, or while it writes, leaves them torn. Nor does it keep all that decides the next trial (the random state of the
Bayesian oracle, the queue of the grid). Here all is in one file, replaced after every change as a whole.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from lightkeras.utils.files import RESULT, failed_result, read_json, trial_folder, write_json

ORACLE = "oracle.json"
LOST_TWICE = 2  # workers that a trial may lose before it is taken for the reason
SILENCE = 60.0  # seconds without a sign of life after which a worker's trial is given to another


class Limits(NamedTuple):
    """Where a search ends; None for no limit.

    Attributes:
        trials: Trials to create.
        seconds: Seconds from `begin` on after which no trial begins.
        epochs: Epochs of all trials together after which none begins.
        failures: Failed trials in a row after which none begins.
    """

    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    failures: int | None = None


class KeptOracle:
    """Mixin over KerasTuner's oracles: one file, trials of lost workers given to others, limits of the search.

    The results are read from the trials' folders: they are exact there, and have the reasons of failures (KerasTuner's
    messages between processes have float32, and no reasons).

    Attributes:
        folder: The search's.
        limits: Where the search ends.
        changed: Called after each change.
    """

    def begin(self, folder: Path, limits: Limits, changed: Callable) -> None:
        """Sets where the state lies and the limits, and takes the state that is there."""
        self.folder, self.limits, self.changed = folder, limits, changed
        self.verbose = 0
        self.max_consecutive_failed_trials = None  # KerasTuner would raise before it saves
        self._mutex, self._began = threading.RLock(), time.monotonic()
        self._losses: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._last_heard, self._stopped = time.monotonic(), False
        if (state := read_json(folder / ORACLE)) is not None:
            self._take(state)

    @property
    def seconds_left(self) -> float | None:
        """What is left of the search's time; None without a limit."""
        return None if self.limits.seconds is None else self.limits.seconds - (time.monotonic() - self._began)

    @property
    def out_of_budget(self) -> bool:
        """Whether no trial may begin any more, by the search's time or its epochs."""
        late = self.limits.seconds is not None and self.seconds_left <= 0
        return late or (self.limits.epochs is not None and self._epochs() >= self.limits.epochs)

    @property
    def failures(self) -> list[Trial]:
        """The last trials, if so many in a row have failed that the search ends."""
        most = self.limits.failures or len(self.trials) + 1
        ended = [self.trials[trial_id] for trial_id in self.end_order][-most:]
        return ended if len(ended) == most and all(trial.status == "FAILED" for trial in ended) else []

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended and none will begin; or the budget is used up."""
        return self.out_of_budget or (self._stopped and not self.ongoing_trials)

    @property
    def silent_for(self) -> float:
        """Seconds since a worker asked for anything."""
        return time.monotonic() - self._last_heard

    def _epochs(self) -> float:
        """Epochs trained by all trials that ended; those taken over from an earlier trial count once."""
        results = [(trial, self.result(trial.trial_id) or {}) for trial in self.trials.values()]
        before = [trial.hyperparameters.values.get("tuner/initial_epoch", 0) for trial, _ in results]
        return sum(max(0.0, (r.get("epochs") or 0) - b) for (_, r), b in zip(results, before, strict=True))

    def result(self, trial_id: str) -> dict | None:
        """The result of a trial that has ended."""
        return read_json(trial_folder(self.folder, trial_id) / RESULT)

    # ---- what KerasTuner calls

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial, one whose worker was lost, or a trial with the status IDLE (ask again) or STOPPED (end)."""
        with self._mutex:
            self._last_heard = time.monotonic()
            self._give_up_silent(tuner_id)
            trial = self._next(tuner_id)
            if trial.status == "RUNNING":
                self._heard[trial.trial_id] = time.monotonic()
                self._commit()
            elif trial.status == "STOPPED":
                self._stopped = True
            return trial

    def _next(self, tuner_id: str) -> Trial:
        if self.out_of_budget or self.failures:
            return Trial(self.get_space(), "", "STOPPED")
        waits = bool(self._retry_queue) or tuner_id in self.ongoing_trials
        done = self.limits.trials is not None and len(self.trials) >= self.limits.trials
        trial = Trial(self.get_space(), "", "STOPPED") if done and not waits else super().create_trial(tuner_id)
        if trial.status == "STOPPED" and self.ongoing_trials:
            trial.status = "IDLE"  # another worker may be lost, and its trial wait for this one
        return trial

    def end_trial(self, trial: Trial) -> None:
        """Takes the result from the trial's folder; a worker that was given up is not listened to."""
        with self._mutex:
            if trial.trial_id not in [one.trial_id for one in self.ongoing_trials.values()]:
                return
            result = self.result(trial.trial_id)
            trial.status, trial.message = result["status"], result["reason"]
            super().end_trial(trial)
            self._commit()

    def score_trial(self, trial: Trial) -> None:
        """The score of a trial that ended well."""
        result = self.result(trial.trial_id)
        trial.score, trial.best_step = result["score"], result["step"]

    def get_trial(self, trial_id: str) -> Trial:
        """The trial: what a worker asks for as a sign of life."""
        with self._mutex:
            self._heard[trial_id] = self._last_heard = time.monotonic()
            return super().get_trial(trial_id)

    def save(self, *args: Any) -> None:
        """Nothing: `_commit` saves, once all has changed."""

    def _save_trial(self, trial: Trial) -> None:
        """Nothing, as `save`."""

    # ---- workers that are lost

    def lost(self, tuner_id: str, why: str) -> None:
        """Gives the trial of a worker that has died to the next one that asks; the second time, it has failed."""
        with self._mutex:
            trial = self.ongoing_trials.get(tuner_id)
            if trial is None:
                return
            self._losses[trial.trial_id] = self._losses.get(trial.trial_id, 0) + 1
            if self.result(trial.trial_id) is not None:
                self.end_trial(trial)
            elif self._losses[trial.trial_id] >= LOST_TWICE:
                folder = trial_folder(self.folder, trial.trial_id)
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / RESULT, failed_result(f"{why}, twice"))
                self.end_trial(trial)
            else:
                self._retry_queue.append(self.ongoing_trials.pop(tuner_id).trial_id)
                self._commit()

    def _give_up_silent(self, tuner_id: str) -> None:
        now = time.monotonic()
        for other, trial in list(self.ongoing_trials.items()):
            if other != tuner_id and now - self._heard.get(trial.trial_id, now) > SILENCE:
                self.lost(other, f"nothing was heard of its worker for {SILENCE:.0f} seconds")

    # ---- the state

    def _commit(self) -> None:
        """Writes everything, and tells of the change."""
        trials = {name: trial.get_state() for name, trial in self.trials.items()}
        state = {"oracle": self.get_state(), "own": self.own_state(), "losses": self._losses, "trials": trials}
        write_json(self.folder / ORACLE, state)
        self.changed()

    def _take(self, state: dict) -> None:
        """Takes what `_commit` wrote; the trials that were running then are the next ones."""
        self.trials = {name: Trial.from_state(trial) for name, trial in state["trials"].items()}
        self.set_state(state["oracle"])
        self.set_own_state(state["own"])
        self._losses = state["losses"]
        self._retry_queue += [trial.trial_id for trial in self.ongoing_trials.values()]
        self.ongoing_trials = {}

    def own_state(self) -> dict:
        """What decides the next trial, and KerasTuner does not keep."""
        return {}

    def set_own_state(self, state: dict) -> None:
        """Takes what `own_state` gave."""


class RandomOracle(KeptOracle, keras_tuner.oracles.RandomSearchOracle):
    """Values drawn at random."""


class HyperbandOracle(KeptOracle, keras_tuner.oracles.HyperbandOracle):
    """Many trials of few epochs; the best go on for more (Li et al., http://jmlr.org/papers/v18/16-558.html)."""


class BayesianOracle(KeptOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    """Values where a Gaussian process over the scores promises most."""

    def own_state(self):
        kind, keys, position, has_gauss, gauss = self._random_state.get_state()
        return {"random_state": [kind, keys.tolist(), position, has_gauss, gauss]}

    def set_own_state(self, state):
        kind, keys, *rest = state["random_state"]
        self._random_state.set_state((kind, np.array(keys, np.uint32), *rest))


class GridOracle(KeptOracle, keras_tuner.oracles.GridSearchOracle):
    """Every combination: of a range without a step, ten values."""

    def own_state(self):
        ordered = self._ordered_ids
        following = [[index, ordered._next_index[index]] for index in list(ordered._next_index)]
        order = {"memory": ordered._memory, "next": following, "last": ordered._last_index}
        return {"order": order, "populate_next": self._populate_next}

    def set_own_state(self, state):
        ordered, order = self._ordered_ids, state["order"]
        ordered._memory, ordered._last_index = order["memory"], order["last"]
        ordered._data_to_index = {trial_id: index for index, trial_id in enumerate(ordered._memory)}
        ordered._next_index.update(dict(map(tuple, order["next"])))
        self._populate_next = state["populate_next"]


def make_oracle(algorithm: str, **given: Any) -> KeptOracle:
    """The oracle of an algorithm.

    Args:
        algorithm: A key of `ALGORITHMS`.
        given: KerasTuner's arguments for it.
    """
    # without `max_trials`: `KeptOracle.most` may grow when a search goes on, and the trials' names stay
    limited = {} if algorithm == "hyperband" else {"max_trials": None}
    return ALGORITHMS[algorithm](tune_new_entries=False, allow_new_entries=False, **limited, **given)


ALGORITHMS = {
    "random": RandomOracle, "grid": GridOracle, "bayesian": BayesianOracle, "hyperband": HyperbandOracle,
}  # fmt: skip
