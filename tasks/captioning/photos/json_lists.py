"""The lists of a JSON document, entry by entry: a file of any size."""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

import lightkeras as lk

CHUNK = 1 << 20  # characters that are read at a time, or one entry if it is longer
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class ListReader:
    """Iterates over (key, entry) of every list that the document, an object, has under one of `wanted` keys.

    Args:
        file: The file, opened as UTF-8 without translation of line ends.
        path: Its path, for messages.
        wanted: The keys.
        place: What `place()` returned, to go on behind that entry; None for the start.

    Raises:
        ValueError: The file is no JSON or no object, or a wanted value is no list.
    """

    def __init__(self, file: TextIO, path: pathlib.Path, wanted: tuple[str, ...], place: dict[str, Any] | None = None):
        place = place or {"offset": 0, "key": None, "keys": []}
        self._file, self._path, self._wanted = file, path, wanted
        self._offset, self._key, self.keys = place["offset"], place["key"], list(place["keys"])
        self._text, self._at = "", 0
        file.seek(self._offset)

    def place(self) -> dict[str, Any]:
        """Returns where the last entry ends: in bytes, with its key and all keys so far."""
        self._offset += len(self._text[: self._at].encode())
        self._text, self._at = self._text[self._at :], 0
        return {"offset": self._offset, "key": self._key, "keys": self.keys}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        if self._key is None:
            more = self._begin()
        else:
            yield from self._entries()
            more = self._take(",")
        while more:
            yield from self._member()
            more = self._take(",")
        self._expect("}")
        if self._next_sign():
            self._fail("Extra data")

    def _begin(self) -> bool:
        """Enters the document; returns whether it has a member."""
        self._take("\ufeff")
        if not self._take("{"):
            raise lk.utils.ArgumentError(missing_key(self._path, f"a {type(self._value()).__name__}"))
        return self._next_sign() != "}"

    def _member(self) -> Iterator[tuple[str, Any]]:
        key = self._value()
        if not isinstance(key, str):
            self._fail("Expecting property name enclosed in double quotes")
        self._expect(":")
        self.keys.append(key)
        if key not in self._wanted:
            self._value()
        elif not self._take("["):
            lk.utils.require(False, key, f"a list of objects in {self._path}", type(self._value()).__name__)
        elif not self._take("]"):
            self._key = key
            yield key, self._value()
            yield from self._entries()

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Yields the entries behind the first of those that are left."""
        while self._take(","):
            yield self._key, self._value()
        self._expect("]")
        self._key = None

    def _next_sign(self) -> str:
        """Returns the next character that is no space, or "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _take(self, sign: str) -> bool:
        """Returns whether `sign` is next, and goes behind it."""
        is_next = self._next_sign() == sign
        self._at += is_next
        return is_next

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(f"Expecting {sign!r}")

    def _value(self) -> Any:
        """Reads a value, which may be longer than what was read so far."""
        self._next_sign()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._more():
                    self._at = getattr(error, "pos", self._at)
                    self._fail(getattr(error, "msg", str(error)), error)
            else:
                if end < len(self._text) or not self._more():
                    self._at = min(end, len(self._text))
                    return value

    def _more(self) -> bool:
        self.place()
        read = self._file.read(max(CHUNK, len(self._text)))
        self._text += read
        return bool(read)

    def _fail(self, fault: str, error: Exception | None = None) -> NoReturn:
        place = self.place()["offset"]
        raise lk.utils.ArgumentError(f"Expected {self._path} to be JSON. Received: {fault} (byte {place})") from error


def missing_key(path: pathlib.Path, there: str, key: str = "images") -> str:
    """Says that a file lacks a key, and what it has."""
    return (
        f'Expected {path} to have the key "{key}" (COCO: "images" and "annotations"; Karpathy: "images" with '
        f'"sentences"). Received: {there}'
    )
