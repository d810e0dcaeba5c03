"""The method by which a task names its page."""

from typing import NoReturn

from lightkeras.demo.page import Page
from lightkeras.utils.checks import lightkeras_error


class DemonstratedTask:
    """Gives a task `demo`, which a subclass overrides."""

    def demo(self) -> Page:
        """Returns the page of `lightkeras demo`: see `lk.demo.Page`. The task is trained; its data are not read."""
        raise_no_demo(type(self))


def require_demo(task_class: type[DemonstratedTask]) -> None:
    """Raises NotImplementedError unless the class overrides `demo`."""
    if task_class.demo is DemonstratedTask.demo:
        raise_no_demo(task_class)


def raise_no_demo(task_class: type) -> NoReturn:
    """Raises the error of a task without a page."""
    raise lightkeras_error(NotImplementedError)(
        f"Expected {task_class.__name__} to have a method `demo()` that returns a `lk.demo.Page`. Received: none"
    )
