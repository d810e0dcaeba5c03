"""The blocks that a page is made of: texts, tables, pictures, curves. A task gives them, and writes no HTML.

Everything in a block is shown as text: the page escapes it. A block of other values than those raises ValueError.
"""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

from lightkeras.utils.checks import require

MAX_TEXT = 4000  # characters of a text that are shown


@dataclasses.dataclass(frozen=True)
class Text:
    """A text as it is, line breaks included.

    Attributes:
        text: The text, in any script and direction. The first 4,000 characters are shown.
        title: A line above it.
        folded: Whether the text is hidden until the reader opens it by its title.
    """

    text: str
    title: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        require(isinstance(self.text, str), "text", "a string", self.text)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: The names of the columns, with units.
        rows: Texts, numbers and None for an empty cell: a row has a value for each column.
        title: A line above it.
        folded: Whether the table is hidden until the reader opens it by its title.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        require(_are_texts(self.columns), "columns", "a list of strings", self.columns)
        uneven = [row for row in self.rows if isinstance(row, str) or len(row) != len(self.columns)]
        require(not uneven, "rows", f"rows of {len(self.columns)} values, one for each column", uneven[:1])


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG, GIF or JPEG picture.

    Attributes:
        data: The content of the file.
        alt: What the picture shows, for those who do not see it.
        title: A line below it.
        folded: Whether the picture is hidden until the reader opens it by its title.
    """

    data: bytes
    alt: str
    title: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        require(isinstance(self.data, bytes), "data", "the content of a picture's file, as bytes", type(self.data))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Curves of logged metrics over the updates, in one chart.

    Attributes:
        metrics: Names of columns of metrics.csv; one that the run has not logged is left out.
        title: The chart's title.
    """

    metrics: Sequence[str]
    title: str

    def __post_init__(self) -> None:
        require(_are_texts(self.metrics), "metrics", "a list of strings", self.metrics)


Block = Text | Table | Picture | Curve
KINDS = {kind.__name__: kind for kind in (Text, Table, Picture, Curve)}


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        blocks: Its blocks, from top to bottom.
        note: A sentence below the heading.
    """

    title: str
    blocks: Sequence[Any]
    note: str = ""


def to_json(section: Section) -> dict[str, Any]:
    """Returns the section as JSON values."""
    return {"title": section.title, "note": section.note, "blocks": [_block_to_json(one) for one in section.blocks]}


def _block_to_json(block: Block) -> dict[str, Any]:
    values = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
    if isinstance(block, Picture):
        values["data"] = base64.b64encode(block.data).decode()
    return {"kind": type(block).__name__, **values}


def from_json(value: dict[str, Any]) -> Section:
    """Returns the section that `to_json` has written.

    Raises:
        KeyError, TypeError, ValueError: It has not written this.
    """
    blocks = [_block_from_json(dict(one)) for one in value["blocks"]]
    return Section(str(value["title"]), blocks, str(value.get("note", "")))


def _block_from_json(values: dict[str, Any]) -> Block:
    kind = KINDS[values.pop("kind")]
    if kind is Picture:
        values["data"] = base64.b64decode(values["data"], validate=True)
    return kind(**values)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(one, str) for one in values)
