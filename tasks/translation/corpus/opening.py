"""The corpus of a source: encoded in memory, or, of large files, once on the disk."""

import glob
import pathlib
import warnings

import lightkeras as lk
from tasks.translation.corpus import encoding
from tasks.translation.corpus.encoding import Corpus, PairCache, encode_in_memory
from tasks.translation.corpus.reading import Faults, Part, find_faults, read_pairs


def find_parts(source: str, download: lk.data.Download) -> list[Part]:
    """Finds the files of a source: "download"; a file, a folder or a glob of files with pairs; or "FIRST,SECOND".

    Raises:
        ValueError: There is no such file.
        DownloadError: The official file is neither present nor available.
    """
    names = source.split(",")
    exists = source == "download" or lk.utils.local_path(source).exists()
    if len(names) == 2 and not exists:
        return [tuple(lk.data.find_data(name, download) for name in names)]
    is_pattern = not exists and glob.has_magic(source)
    return [(file,) for file in lk.text.find_texts(source if is_pattern else lk.data.find_data(source, download))]


def cache_of(parts: list[Part], cleaning: str, vocabulary: str, skip_bad_lines: bool) -> PairCache | None:
    """Returns the cache of files that do not go into memory; None for others."""
    size = sum(file.stat().st_size for part in parts for file in part)
    return PairCache(parts, cleaning, vocabulary, skip_bad_lines) if size > encoding.IN_MEMORY else None


def open_corpus(parts: list[Part], cleaning: str, vocabulary: str, skip_bad_lines: bool) -> Corpus:
    """Opens the corpus of files, or encodes it; see `TranslationData` for the arguments.

    Raises:
        ValueError: Lines that are no pairs, and are not to be skipped.
    """
    cache = cache_of(parts, cleaning, vocabulary, skip_bad_lines)
    if cache:
        corpus, faults = cache.open_corpus()
    else:
        faults = [find_faults(part, skip_bad_lines) for part in parts]
        blocks = (pairs for part in parts for pairs, _ in read_pairs(part))
        corpus = encode_in_memory(blocks, cleaning, vocabulary)
    for part, one in zip(parts, faults, strict=True):
        _warn(part, one)
    return corpus


def _warn(part: tuple[pathlib.Path, ...], faults: Faults) -> None:
    if faults.bad:
        names = ",".join(map(str, part))
        warnings.warn(f"Skipped {faults.bad:,} of {faults.lines:,} lines of {names}: {faults.named}", stacklevel=6)
