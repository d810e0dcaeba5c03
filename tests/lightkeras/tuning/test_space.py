"""Ranges with a step: both ends, and values as they are written."""

import keras_tuner
import pytest
import yaml
from helpers.toys import Classifier

import lightkeras as lk
from lightkeras.tuning.oracles import ALGORITHMS
from lightkeras.tuning.space import list_grid, search_space
from tasks.captioning import Captioning
from tasks.dcgan import DCGAN
from tasks.text_generation import TextGeneration
from tasks.translation import Translation

TENTHS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
TRAINER = {"max_epochs": 1, "run_eagerly": True, "num_sanity_val_steps": 0, "limit_train_batches": 1}


def values_of(space) -> dict[str, list]:
    return {parameter.name: list(parameter.values) for parameter in lk.search_space(space).space}


def test_the_end_is_in_a_grid_and_values_are_as_they_are_written():
    assert list_grid(0.0, 0.5, 0.1, "linear") == TENTHS
    assert list_grid(0.1, 0.7, 0.3, "linear") == [0.1, 0.4, 0.7]
    assert list_grid(0.0, 0.5, 0.2, "linear") == [0.0, 0.2, 0.4]  # 0.5 does not lie on the grid
    assert list_grid(3e-4, 0.3, 10, "log") == [0.0003, 0.003, 0.03, 0.3]
    assert list_grid(1.0, 8.0, 2.0, "reverse_log") == [1.0, 5.0, 7.0, 8.0]


def test_every_way_to_declare_a_step():
    hp = keras_tuner.HyperParameters()
    hp.Float("task.dropout", 0.0, 0.5, step=0.1, default=0.3)
    given = [{"task.dropout": {"float": [0.0, 0.5, 0.1]}}, hp, lambda hp: hp.Float("task.dropout", 0.0, 0.5, step=0.1)]
    assert [values_of(space) for space in given] == [{"task.dropout": TENTHS}] * 3
    assert lk.search_space(hp).values == {"task.dropout": 0.3}
    space = {"task.units": {"int": [2, 8, 2]}, "task.width": {"int": [2, 32, 2, "log"]}}
    assert values_of(space) == {"task.units": [2, 4, 6, 8], "task.width": [2, 4, 8, 16, 32]}
    nested = {"task.cell": {"choice": ["a", "b"]}, "task.x": {"float": [0, 1, 0.5], "when": {"task.cell": "b"}}}
    (condition,) = lk.search_space(nested).space[1].conditions
    assert (condition.name, condition.values) == ("task.cell", ["b"])


@pytest.mark.parametrize("task_class", [TextGeneration, DCGAN, Translation, Captioning])
def test_both_ends_of_every_shipped_range_are_reached(task_class):
    stepped = 0
    for parameter in lk.search_space(task_class.search_space).space:
        (kind,) = {"int", "float", "choice"} & set(task_class.search_space[parameter.name])
        written = task_class.search_space[parameter.name][kind]
        reached = [parameter.prob_to_value(prob) for prob in (0.0, 1 - 1e-12)]
        ends = [written[0], written[-1] if kind == "choice" else written[1]]
        exact = "log" not in written
        assert reached == (ends if exact else pytest.approx(ends))
        stepped += kind != "choice" and exact
    assert stepped


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"float": [0.0, 0.5, 0]}, "a step above 0 and at most its width"),
        ({"float": [0.0, 0.5, -0.1]}, "a step above 0"),
        ({"float": [0.0, 0.5, 0.7]}, "at most its width"),
        ({"int": [2, 8, 0]}, "a step above 0"),
        ({"float": [0.1, 0.5, 1, "log"]}, "a step above 1"),
        ({"float": [0.0, 0.5, 0.1], "default": 0.25}, r"`task.x.default` to be one of the values \[0.0, 0.1"),
    ],
)
def test_steps_that_make_no_grid(how, message):
    with pytest.raises(lk.utils.ArgumentError, match=message):
        lk.search_space({"task.x": how})


def test_steps_of_keras_tuner_that_make_no_grid():
    hp = keras_tuner.HyperParameters()
    hp.Float("task.x", 0.0, 0.5, step=0.0)
    with pytest.raises(lk.utils.ArgumentError, match="a step above 0"):
        lk.search_space(hp)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_values_in_the_files_of_a_search(algorithm, tmp_path):
    space = {"task.dropout": {"float": [0.1, 0.3, 0.2]}}  # 0.1 + 0.2 is 0.30000000000000004
    trainer = {**TRAINER, "max_epochs": 2} if algorithm == "hyperband" else TRAINER
    if algorithm != "hyperband":
        space["task.units"] = {"int": [2, 4, 2]}
    tuner = lk.Tuner(Classifier, space, folder=tmp_path / "s", algorithm=algorithm, max_trials=4, trainer=trainer)
    trials = tuner.search()
    assert set(trials["task.dropout"]) <= {0.1, 0.3} and 0.3 in set(trials["task.dropout"])
    assert "0.30000000000000004" not in (tmp_path / "s" / "trials.csv").read_text()
    best = yaml.safe_load((tmp_path / "s" / "best_config.yaml").read_text())
    assert best["task"]["init_args"]["dropout"] in (0.1, 0.3)


def test_a_key_written_twice_in_a_file_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_text("task.units: {int: [1, 9]}\ntask.units: {int: [1, 3]}\n")
    with pytest.raises(ValueError, match=r"'task.units' stands in line 1 and again in line 2"):
        search_space(tmp_path / "space.yaml")
