"""A page: its tools, each of which answers what its fields hold."""

import dataclasses
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import markupsafe

from lightkeras.demo.fields import FIELDS, Field
from lightkeras.demo.markup import problem, text
from lightkeras.utils.checks import LightkerasError, require

FAULT = "An error that this page cannot explain. The terminal where the demo runs has it."


@dataclasses.dataclass(frozen=True)
class Tool:
    """One thing to try on a page.

    Args:
        title: Its heading.
        fields: What people can put in, by the keyword under which `respond` gets it.
        respond: Returns the answer, or yields it as it grows: a str, whose characters stand on the page as they are, or
            HTML as a `markupsafe.Markup`, as the functions of `lk.demo` return it. A LightkerasError becomes a sentence
            on the page.
        button: The text of the button that asks for an answer; None answers whenever a field changes, and at first.
        note: A sentence above the fields.
    """

    title: str
    fields: Mapping[str, Field]
    respond: Callable[..., "str | Iterator[str]"]
    button: str | None = "Run"
    note: str = ""

    def __post_init__(self):
        for field in self.fields.values():
            require(isinstance(field, FIELDS), "fields", "fields of `lk.demo`", field, TypeError)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page to try a trained task.

    Args:
        title: Its heading.
        about: A sentence or two below it.
        tools: What there is to try, from top to bottom.
    """

    title: str
    about: str
    tools: list[Tool]
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self):
        require(len(self.tools) > 0, "tools", "at least one tool", self.tools)

    def answer(self, tool: Tool, given: Mapping[str, Any]) -> Iterator[markupsafe.Markup]:
        """Yields the answer as HTML, as it grows; an error is its last part.

        Several people may ask at once: the model computes for one of them at a time, part by part.

        Args:
            tool: One of `tools`.
            given: What came from the page, by the names of `tool.fields`.
        """
        shown = markupsafe.Markup("")
        try:
            with self._lock:
                values = {name: field.read(given.get(name)) for name, field in tool.fields.items()}
                found = tool.respond(**values)
            parts = iter([found]) if isinstance(found, str) else iter(found)
            while (part := self._next(parts)) is not None:
                shown = _to_markup(part)
                yield shown
        except LightkerasError as error:
            yield shown + problem(str(error))
        except Exception:
            traceback.print_exc()
            yield shown + problem(FAULT)

    def _next(self, parts: Iterator[str]) -> str | None:
        with self._lock:
            return next(parts, None)


def _to_markup(part: str) -> markupsafe.Markup:
    return part if isinstance(part, markupsafe.Markup) else text(part)
