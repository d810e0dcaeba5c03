"""Constructor arguments are recorded, and make the object again."""

import collections
import copy
import dataclasses
import enum
import json
import math
import pathlib
import pickle

import hypothesis
import keras
import numpy as np
import pytest
import yaml
from helpers.toys import Classifier, PointsData, quiet
from hypothesis import strategies as st

import lightkeras as lk
from lightkeras.utils.hparams import HyperparametersMixin, describe, read_arguments
from lightkeras.utils.trust import class_path, import_class


class Parent(lk.DataModule):
    def __init__(self, size: int, names: tuple = ("a",), rate: float = 0.5):
        self.size, self.rate = size, rate


class Child(Parent):
    def __init__(self, depth: int = 2, **kwargs):
        super().__init__(rate=0.25, **kwargs)
        self.depth = depth


class Grandchild(Child):
    """Has no constructor of its own."""


class Task(lk.TaskModule):
    def __init__(self, units: int = 3, **kwargs):
        super().__init__(**kwargs)


def test_defaults_and_positions_are_recorded_by_name():
    assert Parent(3).hparams == {"size": 3, "names": ("a",), "rate": 0.5}
    assert Parent(3, rate=0.1).init_args == {"size": 3, "names": ("a",), "rate": 0.1}


@pytest.mark.parametrize("kind", [Child, Grandchild])
def test_arguments_given_on_to_a_parent_are_recorded_as_it_has_them(kind):
    child = kind(size=4)
    assert child.hparams == {"depth": 2, "size": 4, "names": ("a",), "rate": 0.25}
    assert child.init_args == {"depth": 2, "size": 4}
    assert (child.size, child.rate, child.depth) == (4, 0.25, 2)


def test_hparams_are_a_copy():
    data = Parent(3)
    data.hparams["size"] = 5
    assert data.hparams["size"] == 3


def test_a_task_records_too_and_takes_the_arguments_of_a_keras_model():
    task = Task(5, name="mine")
    assert task.hparams == {"units": 5, "name": "mine"} and task.name == "mine"
    assert Task().hparams == {"units": 3}


def test_what_is_described_is_made_again():
    for instance in (Parent(3, ["b"]), Child(size=4), Grandchild(1, size=2), Task(7)):
        again = type(instance)(**read_arguments(json.loads(json.dumps(describe(instance)))["init_args"]))
        assert type(again) is type(instance) and again.hparams == instance.hparams
    assert describe(Task(7)) == {"class_path": f"{__name__}.Task", "init_args": {"units": 7}}


def test_wrong_arguments_are_pythons_error():
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'sise'"):
        Parent(sise=3)
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument: 'size'"):
        Child()


def test_arguments_without_a_name_are_refused():
    class Anything(lk.DataModule):
        def __init__(self, *sizes):
            pass

    assert Anything().hparams == {}
    with pytest.raises(ValueError, match=r"Expected `sizes` to be empty.*Received: sizes=\(1, 2\)"):
        Anything(1, 2)


def test_an_argument_that_no_file_holds_is_refused_when_described():
    with pytest.raises(TypeError, match=r"arguments of Parent to be of types.*Received: names=<object"):
        describe(Parent(3, names=object()))


def test_a_class_that_cannot_be_imported_is_named():
    assert import_class(class_path(Parent), HyperparametersMixin) is Parent
    for path in ("lightkeras.nowhere.Class", f"{__name__}.Missing", f"{__name__}.Parent.Missing", "Class"):
        with pytest.raises(ImportError, match=rf'Expected an importable class.*Received: "{path}"'):
            import_class(path, HyperparametersMixin)


# ---- values as they were given


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: float
    tags: list = dataclasses.field(default_factory=list)
    norm: float = dataclasses.field(init=False, default=0.0)


class Holder(lk.DataModule):
    def __init__(self, value=None):
        self.value = value


@dataclasses.dataclass
class DataclassData(lk.DataModule):
    size: int = 3
    names: list = dataclasses.field(default_factory=lambda: ["x"])

    def __post_init__(self):
        self.names.append("changed")


@dataclasses.dataclass
class DataclassTask(lk.TaskModule):
    units: int = 3

    def __post_init__(self):
        super().__init__()


def by_config(instance):
    text = yaml.safe_dump(describe(instance), sort_keys=False, allow_unicode=True)
    return type(instance)(**read_arguments(yaml.safe_load(text)["init_args"]))


def by_manifest(instance):
    return type(instance)(**read_arguments(json.loads(json.dumps(describe(instance)))["init_args"]))


WAYS = (by_config, by_manifest, copy.deepcopy, lambda instance: pickle.loads(pickle.dumps(instance)))
TEXT = st.text(max_size=8) | st.text(st.characters(codec=None, categories=["Cs", "Cc", "Zl"]), max_size=3)
NUMPY = st.sampled_from([np.bool_, np.int8, np.uint64, np.int64, np.float16, np.float32, np.float64]).flatmap(
    lambda kind: st.integers(0, 100).map(lambda value: kind(value) / kind(1) if kind is np.float32 else kind(value))
)
HASHABLE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT, st.binary(max_size=4), NUMPY,
    st.sampled_from(Color), st.text("ab/~ .", max_size=6).map(pathlib.Path), st.timedeltas(), st.dates(),
    st.datetimes(),
)  # fmt: skip
VALUES = st.recursive(
    HASHABLE | st.builds(Point, st.floats(allow_nan=False), st.lists(HASHABLE, max_size=2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=3), st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip


def types(value):
    """The types of a value and of those inside it."""
    if isinstance(value, dict):
        return dict, [(types(key), types(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(str(types(item)) for item in value)
    if isinstance(value, Point):
        return Point, [types(field) for field in (value.x, value.tags, value.norm)]
    return type(value)


@hypothesis.settings(max_examples=200, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(VALUES)
def test_what_is_accepted_comes_back_equal_in_type_and_value(value):
    given = copy.deepcopy(value)
    for way in WAYS:
        again = way(Holder(value)).hparams.value
        assert again == given and types(again) == types(given)


@pytest.mark.parametrize(
    "value",
    [
        {0: 1.0, 1: 5.0},
        (3, 3),
        np.float32(0.1),
        np.datetime64("2026-01-02"),
        np.complex64(1 + 2j),
        np.bytes_(b""),
        pathlib.PurePosixPath("a"),
        float("inf"),
        {"$tuple": [1]},
        "\ud800",
        "\x85",
        {"a\u2028b\u2029": " \x85\n\r\ufeff\x0c"},
    ],
)
def test_single_values_come_back(value):
    for way in WAYS:
        again = way(Holder(value)).hparams.value
        assert again == value and type(again) is type(value)
    assert math.isnan(by_config(Holder(float("nan"))).value)


@pytest.mark.parametrize(
    "made",
    [
        lambda: keras.layers.Dense(3, name="mine", kernel_initializer=keras.initializers.Constant(2.0)),
        lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        lambda: keras.losses.Huber(0.5),
    ],
)
def test_what_keras_serializes_comes_back(made):
    given = made()
    for way in (by_config, by_manifest):
        again = way(Holder(given)).value
        assert type(again) is type(given) and again is not given
        assert json.dumps(again.get_config(), default=str) == json.dumps(given.get_config(), default=str)


def test_arguments_are_recorded_as_they_were_given():
    class Changes(lk.DataModule):
        def __init__(self, sizes):
            sizes.append(99)

    sizes = [1, 2]
    data = Changes(sizes)
    assert sizes == [1, 2, 99] and data.hparams.sizes == [1, 2]
    assert describe(data)["init_args"] == {"sizes": [1, 2]}


def test_a_dataclass_is_recorded():
    data = DataclassData(5)
    assert data.names == ["x", "changed"] and data.hparams == {"size": 5, "names": ["x"]}
    assert by_config(data).names == ["x", "changed"]
    assert DataclassTask(7).init_args == {"units": 7} and DataclassTask().units == 3


@pytest.mark.parametrize("value", [object(), lambda: 1, np.zeros(2), collections.OrderedDict(a=1), open])
def test_other_types_are_named_before_there_is_a_folder(value, tmp_path):
    trainer = lk.Trainer(max_steps=1, default_root_dir=str(tmp_path / "runs"))
    with pytest.raises(TypeError, match=r"Expected the arguments of PointsWith .* Received: value="):
        trainer.fit(Classifier(), PointsWith(value))
    assert not (tmp_path / "runs").exists()
    quiet(max_steps=1).fit(Classifier(), PointsWith(value))  # writes no file


class PointsWith(PointsData):
    def __init__(self, value):
        super().__init__()


def test_factories_of_a_dataclass_are_its_own():
    """A parent's constructor has an argument of the same name, which it is not given."""

    class Base(lk.DataModule):
        def __init__(self, names: tuple = ("base",)):
            self.of_base = names

    @dataclasses.dataclass
    class Derived(Base):
        names: list = dataclasses.field(default_factory=list)

        def __post_init__(self):
            super().__init__()

    assert Derived().of_base == ("base",) and Derived().init_args == {"names": []}
