"""The data of each stage: which data set, how many of its batches, and how often the module is asked."""

import numpy as np
import pytest
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.data import stages


class CountedData(PointsData):
    """Counts the calls of each method that makes a data set."""

    def setup(self, stage):
        super().setup(stage)
        self.calls = {"train": 0, "val": 0}

    def train_dataset(self):
        self.calls["train"] += 1
        return super().train_dataset()

    def val_dataset(self):
        self.calls["val"] += 1
        return super().val_dataset()


class Without(lk.DataModule):
    """Has no validation data."""

    def train_dataset(self):
        return lk.AddressedDataset.from_arrays({"x": np.arange(6)}, 2)


def test_a_fit_makes_each_data_set_once():
    data = CountedData()
    quiet(max_epochs=2, num_sanity_val_steps=1).fit(Classifier(), data)
    assert data.calls == {"train": 1, "val": 1}


def test_the_data_of_a_stage():
    data = PointsData(size=40, batch_size=8)
    data.setup("fit")
    dataset, steps = stages.training(data, 0.5, 0, parts=4)
    assert steps == 2 and dataset.shuffle and len(dataset) == 5
    assert stages.training(data, 3, 0, parts=1).steps == 3
    ((dataset, steps),) = stages.validation(data, 1.0, 0).values()
    assert steps == 3 and not dataset.shuffle and dataset.batch_size == 4
    assert stages.evaluation(data, "test_dataset", 2)[""].steps == 2


def test_overfitting_repeats_the_first_batches_in_every_epoch():
    data = PointsData()
    data.setup("fit")
    for dataset, steps in (stages.training(data, 1.0, 2, parts=1), stages.validation(data, 1.0, 2)[""]):
        assert steps == 2
        first, again = (
            [batch["x"].tolist() for batch in dataset.stream(3, epoch=epoch, epochs=epoch + 1).as_numpy_iterator()]
            for epoch in (0, 1)
        )
        assert first == again and first[0] == data.x[:8].tolist()


def test_stages_without_data():
    assert stages.validation(Without(), 1.0, 0) == {}
    with pytest.raises(ValueError, match=r"Expected `test_dataset` to be a data set of Without, which has none"):
        stages.evaluation(Without(), "test_dataset")
    with pytest.raises(ValueError, match=r"Expected `batch_size` to be a multiple of 3 \(replicas x micro_batches\)"):
        stages.training(Without(), 1.0, 0, parts=3)


@pytest.mark.parametrize(("amount", "count"), [(3, 3), (200, 100), (0.29, 29), (0.001, 1), (1.0, 100)])
def test_the_number_of_batches(amount, count):
    assert stages.batch_count(amount, 100) == count
