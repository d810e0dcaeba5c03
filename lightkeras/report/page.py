"""One HTML file of a run, of several runs, or of a search: everything is in it, and it asks for nothing else."""

import base64
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

from lightkeras.report.blocks import MAX_TEXT, Section
from lightkeras.report.comparison import comparison_sections, labels_of
from lightkeras.report.record import CONFIG, METRICS, RunRecord
from lightkeras.report.run_page import headline, run_sections
from lightkeras.report.samples import is_wide, media_type
from lightkeras.report.search_page import SEARCH, TRIALS, SearchRecord, search_headline, search_sections
from lightkeras.runs.timeline import TIMELINE
from lightkeras.utils.checks import require
from lightkeras.utils.files import write_text
from lightkeras.utils.formats import show
from lightkeras.utils.paths import Folder

REPORT = "report.html"  # in the folder of a run or a search


class Part(NamedTuple):
    """A rendered section: its heading, and its HTML."""

    title: str
    html: str


@dataclasses.dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        name: The run's, or of several runs their number.
        status: "running", "finished", ...
        line: The result in one line.
        sections: The sections, rendered, by their identifiers.
    """

    name: str
    status: str
    line: str
    sections: dict[str, Part]

    def digests(self) -> dict[str, str]:
        """Returns a digest of each section, of the head too: a live page asks for those that have changed."""
        return {name: hashlib.sha256(html.encode()).hexdigest()[:16] for name, html in self.parts().items()}

    def parts(self) -> dict[str, str]:
        """Returns the HTML of the head and of the sections, by identifier."""
        head = _template("head.html").render(page=self)
        return {"head": head, **{name: part.html for name, part in self.sections.items()}}

    def render(self, script: str = "", nonce: str = "") -> str:
        """Returns the whole document. A live page has a `script`; a file has none."""
        return _template("page.html").render(page=self, parts=self.parts(), script=script, nonce=nonce,
                                              digests=json.dumps(self.digests()))  # fmt: skip


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("lightkeras.report")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)  # fmt: skip
    environment.filters |= {
        "cell": _cell,
        "data_uri": _data_uri,
        "is_wide": is_wide,
        "shorten": _shorten,
        "kind": _kind,
    }
    return environment


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


def _cell(value: Any) -> str:
    """A value of a table as text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return show(value) if number else "" if value is None else str(value)


def _kind(block: Any) -> str:
    return type(block).__name__


def _data_uri(data: bytes) -> str:
    return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}\n[{len(text) - MAX_TEXT:,} more characters]"


def _render(sections: Sequence[Section]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for section in sections:
        name = re.sub(r"\W+", "-", section.title.lower()).strip("-") or "section"
        while name in found or name == "head":
            name += "-more"
        found[name] = Part(section.title, _template("section.html").render(section=section))
    return found


def require_folder(folder: Folder) -> None:
    """Raises a ValueError unless `folder` is that of a run or a search."""
    known = any((folder / name).exists() for name in (CONFIG, METRICS, TIMELINE, TRIALS, SEARCH))
    require(known, "RUN", "the folder of a run or of a search (with config.yaml or trials.csv)", str(folder))


def make_page(folders: Sequence[Folder]) -> Page:
    """Reads the folders and makes the page: of one run or search, or of several runs side by side.

    Raises:
        ValueError: A folder is none of a run or a search; or there are several, and one is a search.
    """
    for folder in folders:
        require_folder(folder)
    searches = [folder for folder in folders if (folder / TRIALS).exists() or (folder / SEARCH).exists()]
    if searches:
        require(len(folders) == 1, "RUN", "one search, or runs", [str(folder) for folder in folders])
        search = SearchRecord(folders[0])
        return Page(search.name, search.status, search_headline(search), _render(search_sections(search)))
    records = [RunRecord(folder) for folder in folders]
    if len(records) == 1:
        (record,) = records
        return Page(record.name, record.status, headline(record), _render(run_sections(record)))
    names = ", ".join(f"{label}: {one.name}" for label, one in zip(labels_of(records), records, strict=True))
    return Page(f"{len(records)} runs", "compared", names, _render(comparison_sections(records)))


def make_report(*folders: Folder) -> str:
    """Returns the HTML document of a run's folder, of several, or of a search's folder.

    It has everything in it: pictures, styles and charts. It may be made at any time, also while the run trains, and of
    a run that broke or is of an earlier version.

    Args:
        folders: Folders of runs, or that of one search.

    Raises:
        ValueError: A folder is none of a run or a search.
    """
    return make_page(folders).render()


def write_report(folder: Folder) -> Folder:
    """Writes `report.html` into the folder of a run or a search, in the place of an earlier one; returns its path."""
    text, path = make_report(folder), folder / REPORT
    write_text(path, text)
    return path
