"""YAML files that people write."""

import os
from typing import Any

import yaml

from lightkeras.utils.checks import ArgumentError
from lightkeras.utils.paths import as_path


class _Loader(yaml.SafeLoader):
    """YAML without a key that is written twice: of two values, YAML would take the last without a word.

    A time such as 10:15:00 is a string: YAML 1.1 would take it for an int, in base 60.
    """

    def construct_mapping(self, node, deep=False):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"{key.value!r} stands in line {seen[key.value]} and again in line {line}")
            seen[str(key.value)] = line
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    return node.value if ":" in node.value else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_yaml(path: str | os.PathLike, name: str) -> Any:
    """Reads the YAML file given as the argument `name`. Tags of Python are not known: no code runs.

    Raises:
        ValueError: It cannot be read, is no YAML, or has a key twice.
    """
    try:
        return yaml.load(as_path(path, name).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(f"Expected {name} to be a YAML file. Received: {path} ({reason})") from error
