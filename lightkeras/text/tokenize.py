"""Reading, normalizing and tokenizing text."""

import codecs
import functools
import io
import pathlib
import re
import unicodedata
from collections.abc import Iterable

from lightkeras.utils.checks import ArgumentError, lightkeras_error
from lightkeras.utils.paths import as_path

TEXT_START = codecs.BOM_UTF8  # that some programs write
_CHUNK = 1 << 22
JOIN = "\uffed"  # a halfwidth black square: `tokenize` puts it on the side where a sign touches a word


def read_text(path: str | pathlib.Path) -> str:
    r"""Reads a UTF-8 file unchanged (`\r\n` stays `\r\n`), except for a byte order mark at the start.

    Raises:
        ValueError: The file is empty, not UTF-8, or has a NUL character, as UTF-16 and files that are no text have. The
            message names line, column (both from 1) and byte offset (from 0) of the first bad byte.
        OSError: The file cannot be read.
    """
    try:
        data = as_path(path).read_bytes()
    except OSError as error:
        raise lightkeras_error(type(error))(
            f"Expected a text file. Received: {path} ({error.strerror or error})"
        ) from error
    text_start = len(TEXT_START) if data.startswith(TEXT_START) else 0
    if len(data) == text_start:
        raise ArgumentError(f"Expected a text file that is not empty. Received: {path}, 0 characters")
    bad = data.find(b"\0")
    try:
        text = str(memoryview(data)[text_start:], "utf-8")
    except UnicodeDecodeError as error:
        bad = text_start + error.start
    if bad < 0:
        return text
    raise ArgumentError(f"Expected UTF-8 text. Received: {locate_bad_byte(path, bad)}")


def locate_bad_byte(path: str | pathlib.Path, bad: int) -> str:
    """Describes where in a file the byte at offset `bad` stands, as `read_text` does; reads one line at most whole."""
    lines, line_start = 1, 0
    with as_path(path).open("rb") as file:
        while file.tell() + _CHUNK <= bad:
            block = file.read(_CHUNK)
            lines += block.count(b"\n")
            line_start = file.tell() - len(block) + block.rfind(b"\n") + 1 if b"\n" in block else line_start
        before = file.read(bad - file.tell())
        lines += before.count(b"\n")
        line_start = bad - len(before) + before.rfind(b"\n") + 1 if b"\n" in before else line_start
        file.seek(line_start)
        column = len(file.read(bad - line_start).removeprefix(TEXT_START if lines == 1 else b"").decode()) + 1
        value = file.read(1)[0]
    return f"{path}, line {lines}, column {column} (byte {bad}): 0x{value:02x}"


def split_lines(text: str) -> list[str]:
    r"""Splits at `\n`, `\r\n` and `\r`, as Python reads text files.

    Unlike `str.splitlines`, it keeps form feeds and Unicode's line separators (U+0085, U+2028) within their line.
    """
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def normalize_text(text: str) -> str:
    """Returns `text` in Unicode's composed form (NFC) with one space between words and none around.

    Removes zero-width spaces and byte order marks. Replaces `JOIN`, a halfwidth black square, by a black square, its
    compatible form.
    """
    text = unicodedata.normalize("NFC", text)
    return " ".join(text.replace("\u200b", "").replace("\ufeff", "").replace(JOIN, "\u25a0").split())


@functools.cache
def _signs() -> tuple[re.Pattern, re.Pattern]:
    """Returns two patterns: what `tokenize` cuts off, and a letter or digit.

    `tokenize` cuts off an apostrophe within a word with the letters after it, and every sign (no letter or digit).
    """
    marks = (chr(c) for c in range(0x10000) if unicodedata.category(chr(c)).startswith("M"))
    word = f"\\w\u200c\u200d{''.join(marks)}"  # letters are joined by combining marks and by two format characters
    return re.compile(f"(?<=[{word}])['\u2019][{word}]+|[^\\s{word}]"), re.compile(f"[{word}]")


def letter_runs() -> list[tuple[int, int]]:
    """Returns the runs [start, end) of code points that `tokenize` takes as parts of words: letters, digits, marks."""
    every = "".join(map(chr, range(0x110000)))
    letter = _signs()[1].pattern
    return [match.span() for match in re.finditer(f"{letter}+", every)]


def _marked(match: re.Match) -> str:
    """Puts a sign between spaces, with `JOIN` on the sides where it touches a neighbour."""
    text, start, end = match.string, match.start(), match.end()
    left = JOIN if start and text[start - 1] != " " else ""
    right = JOIN if _signs()[1].match(text, end) else ""  # of two signs that touch, the second has the mark
    return f" {left}{match.group()}{right} "


def tokenize(text: str) -> list[str]:
    """Splits `normalize_text(text)` into words and signs and keeps their case; `detokenize` restores that text.

    A sign is a token of its own. It carries the mark `JOIN` on each side where no space stood, so that words need no
    mark. With the mark written as `_`, `"I'm here," he said.` is `"_ I _'m here _, _" he said _.`.
    """
    return _signs()[0].sub(_marked, normalize_text(text)).split()


def detokenize(tokens: Iterable[str]) -> str:
    """Joins any tokens to a text: a token with a mark touches its neighbour."""
    text = " ".join(tokens)
    return text.replace(" " + JOIN, "").replace(JOIN + " ", "").replace(JOIN, "")
