"""Tasks, data and Trainers made from plain configurations: YAML, dicts, the command line."""

import copy
import re
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightkeras.trainer import Trainer
from lightkeras.utils.checks import nearest

# what jsonargparse says around the one error that matters
_UNION = re.compile(r"^\s*(Does not validate|Subtypes:|Errors:|- Expected a|Given value).*$", re.MULTILINE)


class Parser(ArgumentParser):
    """jsonargparse's, with errors in a line, and the nearest option for an unknown one."""

    def error(self, message, ex=None):
        self.exit(2, f"lightkeras: error: {self._in_a_line(message)} `{self.prog} --help` lists the options.\n")

    def _in_a_line(self, message: str) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        unknown = re.search(r"(--[\w.]+)", message) if "nrecognized" in message or "not accepted" in message else None
        option = re.search(r'[Kk]ey "([\w.]+)"', message)
        types = re.findall(r"Expected an? (?:<class )?'?(\w+)'?>?", message)
        value = re.search(r"(?:Given value|Got value): (.*)", message, re.DOTALL)
        if option and types and value and "Problem with" not in message:
            expected = " or ".join(types).replace("NoneType", "None")
            return f"Expected `{option[1]}` to be {expected}. Received: {value[1].strip().rstrip('.')}."
        hint = nearest(unknown[1], known) if unknown else ""
        return f"{' '.join(_UNION.sub('', message).split()).rstrip('.')}.{hint}"


def add_arguments(parser: ArgumentParser, task_class: type, data_class: type) -> None:
    """Adds the groups `trainer`, `task` and `data`: the arguments of the three constructors."""
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_class_arguments(task_class, "task")
    parser.add_class_arguments(data_class, "data")


def made(parser: Parser, config: Namespace) -> Namespace:
    """The objects of `config`; a Keras callback is told its arguments, for the run's config.yaml."""
    objects = parser.instantiate(config)
    callbacks = objects.trainer.init_args["callbacks"] or ()
    for callback, given in zip(callbacks, config.trainer.callbacks or (), strict=True):
        if not hasattr(callback, "init_args"):
            callback.init_args = given.get("init_args", Namespace()).as_dict()
    return objects


def plain(value: Any) -> Any:
    """What the parser gives, as dicts and lists."""
    value = vars(value) if isinstance(value, Namespace) else value
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


class _Raising(Parser):
    """Raises a ValueError where the command line's parser ends the process."""

    def error(self, message, ex=None):
        raise ValueError(self._in_a_line(message)) from ex


class Configuration:
    """Checks a configuration: the arguments of task, data and Trainer. What is wrong is a ValueError."""

    def __init__(self, task_class: type, data_class: type):
        self._parser = _Raising(allow_abbrev=False)
        add_arguments(self._parser, task_class, data_class)

    def checked(self, config: dict[str, dict]) -> dict[str, dict]:
        """`config` with every default, as plain values."""
        return plain(self._parsed(config))

    def objects(self, config: dict[str, dict]) -> Namespace:
        """Task, data and Trainer."""
        return made(self._parser, self._parsed(config))

    def _parsed(self, config: dict[str, dict]) -> Namespace:
        return self._parser.parse_object(copy.deepcopy(config))  # the parser changes lists in it
