"""The project's pages: their blocks, the commands in them, their links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NO_PAGES = {"build", "dist", "runs", "tuning"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"# run whole on \d{4}-\d\d-\d\d: \S.*")
PROGRAMS = ("lightkeras", "python", "pytest")  # what begins a command in a sentence or a table


@dataclass(frozen=True)
class Command:
    """One command of a page: words, what is piped into it, where its output goes, its environment variables."""

    words: tuple[str, ...]
    text: str
    stdin: str = ""
    out: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    marked: bool = False


def pages() -> list[Path]:
    """Every Markdown file of the project; lightkeras' own folder `runs` is no folder of runs."""
    found = (path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.md")))
    return [path for path in found if not any(p.startswith(".") for p in path.parts) and path.parts[0] not in NO_PAGES]


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of one language; "" for those without one."""
    return [code for name, code in BLOCK.findall(text_of(page)) if name == language]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return BLOCK.sub("", text_of(page))


def commands(page: Path) -> list[Command]:
    """Every command of the page: those of its bash blocks, scripts left out, and those in sentences and tables."""
    scripts = [code for code in blocks(page, "bash") if not code.startswith("#!")]
    listed = [command for code in scripts for command in _of_block(code)]
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page)))
    return listed + [command for span in spans if span.split()[0] in PROGRAMS for command in _of_line(span)]


def _of_block(code: str) -> Iterator[Command]:
    lines, marked = "", bool(MARK.match(code))
    for line in code.splitlines():
        lines += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            shlex.split(lines, comments=True)
        except ValueError:  # a quotation is not closed yet
            continue
        yield from _of_line(lines.replace("\\\n", " "), marked)
        lines = ""
    assert not lines, lines


def _of_line(line: str, marked: bool = False) -> Iterator[Command]:
    """The commands of a line with `&&`, `|` and `>` between them."""
    marked = marked or bool(MARK.search(line))
    lexer = shlex.shlex(line.replace("$'", "'"), posix=True, punctuation_chars="&|>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words, piped = [], ""
    for word in [*lexer, "&&"]:
        if word == "|":
            assert words[0] == "echo", line
            words, piped = [], words[1]
        elif word == "&&":
            if words:
                yield _command(words, piped, marked)
            words, piped = [], ""
        else:
            words.append(word)


def _command(words: list[str], stdin: str, marked: bool) -> Command:
    text, out = shlex.join(words), ""
    if ">" in words:
        words, out = words[: words.index(">")], words[-1]
    variables = []
    while re.match(r"[A-Z_]+=", words[0]):
        name, value = words.pop(0).split("=", 1)
        variables.append((name, value))
    return Command(tuple(words), text, stdin, out, tuple(variables), marked)


def links(page: Path) -> list[str]:
    """The targets of the page's links and pictures, those to other sites left out."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The names that a link to a heading of the page may have."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
