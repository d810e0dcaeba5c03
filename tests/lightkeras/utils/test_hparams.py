"""Constructor arguments are recorded, and make the object again."""

import json

import pytest

import lightkeras as lk
from lightkeras.utils.hparams import class_path, describe, import_class, instantiate


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
        again = instantiate(json.loads(json.dumps(describe(instance))))
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
    with pytest.raises(TypeError, match=r"arguments of Parent to be plain values.*Received: names=<object"):
        describe(Parent(3, names=object()))


def test_a_class_that_cannot_be_imported_is_named():
    assert import_class(class_path(Parent)) is Parent
    for path in ("nowhere.Class", f"{__name__}.Missing", "Class"):
        with pytest.raises(ImportError, match=rf'Expected an importable class.*Received: "{path}"'):
            import_class(path)
