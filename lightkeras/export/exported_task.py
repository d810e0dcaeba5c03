"""The methods by which a task leaves the house."""

import os
from collections.abc import Callable
from typing import Any

from lightkeras.export.check import Compared
from lightkeras.export.endpoints import Endpoint
from lightkeras.export.exporting import export
from lightkeras.utils.checks import lightkeras_error


class ExportedTask:
    """Gives a task `export`; a subclass overrides `exports`.

    Attributes:
        read_run_facts: Returns what an export says of the run, "step", "metrics" and "data"; set by
            `load_from_checkpoint`.
    """

    read_run_facts: Callable[[], dict[str, Any]] = dict

    def exports(self) -> dict[str, Endpoint]:
        """Returns the endpoints of an export by name."""
        raise lightkeras_error(NotImplementedError)(
            f"{type(self).__name__} has no `exports()`, which returns a `lk.export.Endpoint` for each name."
        )

    def export(self, folder: str | os.PathLike, format: str = "saved_model") -> Compared:
        """Exports the task, and compares the export with it in a process without lightkeras and Keras.

        Args:
            folder: A new folder. It appears when it is complete and compared.
            format: One of `lk.export.FORMATS`.

        Returns:
            Differences and seconds, by endpoint.

        Raises:
            ExportError: An endpoint cannot be written, or gives other results than the task.
            FileExistsError: The folder exists.
            NotImplementedError: The task has no `exports()`.
            ValueError: Unknown format, or a task that is not built.
        """
        return export(self, folder, format)
