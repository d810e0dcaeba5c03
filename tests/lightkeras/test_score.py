"""Metrics of what a task makes by itself: in the logs, monitored, added up over rows."""

import numpy as np
import pytest
from helpers.toys import Classifier, PointsData

import lightkeras as lk
from lightkeras.verifier.short_run import QUIET


class Count:
    """CorpusMetric of two sums, and their ratio."""

    def __init__(self, sums):
        self.sums = np.asarray(sums, np.float64)

    @classmethod
    def from_sums(cls, sums):
        return cls(sums)

    def result(self):
        return float(self.sums[0] / self.sums[1])


class Scored(Classifier):
    """A classifier whose score is the share of predictions of class 1, worked out outside of the graph."""

    score_names = ("ones", "mean")
    monitor = ("val_ones", "max")

    def score(self, batches):
        sums = np.zeros(2)
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            ones = np.argmax(self.predict_step(batch).numpy(), axis=-1)[kept]
            sums += ones.sum(), kept.sum()
        return {"ones": Count(sums), "mean": lk.metrics.WeightedMean(*sums)}


def test_scores_come_with_every_evaluation(tmp_path):
    task, data = Scored(), PointsData()
    trainer = lk.Trainer(max_epochs=2, default_root_dir=str(tmp_path), enable_progress_bar=False)
    history = trainer.fit(task, data).history
    assert len(history["val_ones"]) == 2
    ones = np.argmax(trainer.predict(task, data), axis=-1).mean()  # its last batch is short: padding does not count
    assert trainer.validate(task, data)["val_ones"] == history["val_ones"][-1] == history["val_mean"][-1] == ones


def test_the_monitor_of_a_task_ranks_its_checkpoints(tmp_path):
    trainer = lk.Trainer(max_epochs=3, default_root_dir=str(tmp_path), enable_progress_bar=False)
    ones = trainer.fit(Scored(), PointsData()).history["val_ones"]
    again = lk.Trainer(max_epochs=3, default_root_dir=str(tmp_path), enable_progress_bar=False)
    assert again.validate(Scored(), PointsData(), ckpt_path=str(trainer.run_dir))["val_ones"] == max(ones)


def test_a_score_may_be_monitored():
    stopping = lk.EarlyStopping("val_ones", mode="max", patience=1)
    lk.Trainer(max_epochs=2, **QUIET, callbacks=[stopping]).fit(Scored(), PointsData())
    with pytest.raises(ValueError, match=r"one of .*val_ones"):
        lk.Trainer(max_epochs=1, **QUIET, callbacks=[lk.EarlyStopping("val_one", mode="max")]).fit(
            Scored(), PointsData()
        )


def test_other_names_than_declared_are_refused_before_training():
    class Wrong(Scored):
        score_names = ("twos",)

    task = Wrong()
    with pytest.raises(ValueError, match=r"score_names.*'ones'"):
        lk.Trainer(max_epochs=1, **{**QUIET, "num_sanity_val_steps": 1}).fit(task, PointsData())
    assert task.global_step == 0
