"""The results of a search by the names that KerasTuner gives them."""

from typing import TYPE_CHECKING, Any

import keras_tuner

if TYPE_CHECKING:
    from keras_tuner.engine.trial import Trial

    from lightkeras.tuning.oracles import PersistentOracle


class KerasTunerResults:
    """KerasTuner's methods of a search that has results: `get_best_hyperparameters`, `get_best_models`, ..."""

    oracle: "PersistentOracle"

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Returns the hyperparameters of the best trials, the best first."""
        return [trial.hyperparameters for trial in self._list_best(num_trials)]

    def get_best_models(self, num_models: int = 1) -> list[Any]:
        """Loads the models, or tasks, of the best trials with their best weights, the best first."""
        return [self.load_trained(trial) for trial in self._list_best(num_models)]

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best trials, as KerasTuner does."""
        print(f"Results summary\n{self.oracle.objective}")
        for trial in self._list_best(num_trials):
            print()
            trial.summary()

    def load_trained(self, trial: "Trial") -> Any:
        """Loads what a trial trained."""
        raise NotImplementedError

    def _list_best(self, number: int) -> list["Trial"]:
        return [trial for trial in self.oracle.get_best_trials(number) if trial.status == "COMPLETED"]
