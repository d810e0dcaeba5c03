"""The shipped tasks with their presets, as the command line builds them."""

from lightkeras.cli.parsing import find_task, read_command

UNITS = {"text_generation": "characters", "dcgan": "images", "translation": "tokens", "captioning": "words"}


def read(name: str, preset: str) -> dict:
    """Returns a preset's arguments of "trainer", "task" and "data", without callbacks."""
    values = read_command("fit", [name, "--preset", preset]).values
    values["trainer"].pop("callbacks", None)
    return values


def build(name: str, arguments: dict):
    """Builds the task and its data."""
    task = find_task(name)
    return task(**arguments["task"]), task.data_module(**arguments["data"])
