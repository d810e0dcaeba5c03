"""Photos with their captions, by index, and the captions that a split trains on."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

import lightkeras as lk
from tasks.captioning.photos.encoding import SPLITS, PhotoTable, read_names


class Photo(NamedTuple):
    """A photo and its captions.

    Args:
        path: The file.
        captions: At least one.
        split: "train", "validation", "test", "none" (for a photo that the author of the split left out), or None if no
            split is given.
        url: The official address, if it is given.
        size: (width, height) in pixels, if it is given.
    """

    path: pathlib.Path
    captions: tuple[str, ...]
    split: str | None = None
    url: str | None = None
    size: tuple[int, int] | None = None


class PhotoList(Sequence):
    """Some photos of a table in an order: `photos[place]` reads one, `photos[:9]` is a list of the first.

    Args:
        table: The table.
        folders: The folder of the photos of each of its files.
        numbers: The photos' numbers in the table (photos,).

    Attributes:
        splits: The number in `SPLITS` of the split that each carries: uint8 (photos,).
        paths: The file of each photo, read by place too.
    """

    def __init__(self, table: PhotoTable, folders: list[pathlib.Path], numbers: np.ndarray):
        self.table, self._folders, self.numbers = table, folders, numbers
        self.splits, self.paths = table.keys["split"][numbers], PhotoPaths(self)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return self.chosen(place)
        number = int(self.numbers[place])
        _, url, size = json.loads(lk.text.read_texts(self.table.images, [number])[0])
        split = SPLITS[self.table.keys["split"][number]]
        return Photo(self.paths[place], self.captions(place), split, url, size and tuple(size))

    def chosen(self, places) -> "PhotoList":
        """Returns the photos at some places: a slice, numbers, or a bool for each."""
        return PhotoList(self.table, self._folders, self.numbers[places])

    def captions(self, place: int) -> tuple[str, ...]:
        """Returns the captions of a photo, as they were written."""
        return self.table.captions(int(self.numbers[place]))

    def find_paths(self, places) -> list[pathlib.Path]:
        """Returns the files of the photos at some places: numbers, or a slice."""
        numbers = self.numbers[places]
        parts = np.searchsorted(self.table.bounds, numbers, "right") - 1
        names = read_names(self.table.images, numbers)
        return [self._folders[part] / name for part, name in zip(parts.tolist(), names, strict=True)]

    def in_order(self) -> "PhotoList":
        """Sorts by a hash of the file's name: the first thousand stay the first if more are requested."""
        first, second = self.table.keys["order"][self.numbers].T
        return self.chosen(np.lexsort((second, first)))


class PhotoPaths(Sequence):
    """The files of photos, read when they are asked for."""

    def __init__(self, photos: PhotoList):
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return self._photos.find_paths(place)
        return self._photos.find_paths([place])[0]

    def __iter__(self) -> Iterator[pathlib.Path]:
        for places in lk.text.cut(np.arange(len(self))):
            yield from self._photos.find_paths(places)


class References(Sequence):
    """All captions of each of some photos, as they were written: `references[place]` reads a tuple.

    Args:
        photos: The photos.
        places: The places of some.
    """

    def __init__(self, photos: PhotoList, places: np.ndarray):
        self._photos, self._places = photos, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place):
        return self._photos.captions(int(self._places[place]))


class Examples:
    """The captions of some photos as numbered examples, photo after photo.

    Args:
        photos: The photos.
        places: The places of some (n,).
        every: Whether all captions of a photo are examples, or the first alone.
    """

    def __init__(self, photos: PhotoList, places: np.ndarray, every: bool):
        self._photos, self._places = photos, places
        counts = photos.table.captions_of.lengths()[photos.numbers[places]] if every else np.ones(len(places), np.int64)
        self._bounds = np.append(0, np.cumsum(counts, dtype=np.int64))

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def find(self, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the index among the photos, the photo's place and the caption's number of some examples (rows,)."""
        index = np.searchsorted(self._bounds, examples, "right") - 1
        places = self._places[index]
        captions, lengths = self._photos.table.captions_of.read(self._photos.numbers[places])
        return index, places, captions[np.cumsum(lengths) - lengths + examples - self._bounds[index]].astype(np.int64)

    def captions(self) -> np.ndarray:
        """Returns whether each caption of the table is one of the examples: bool (captions,)."""
        chosen = np.zeros(len(self._photos.table.texts), bool)
        for part in lk.text.cut(np.arange(len(self))):
            chosen[self.find(part)[2]] = True
        return chosen
