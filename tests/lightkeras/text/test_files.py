"""Texts in files, encoded once into a memory-mapped file; what is cut off is resumed, what is damaged is made again."""

import json
import os

import numpy as np
import pytest

import lightkeras as lk
from lightkeras.text import file_cache
from lightkeras.text import files as text_files
from lightkeras.text.rows import row_paths

TEXT = "Zwölf Boxkämpfer jagen Viktor — quer über den Sylter Deich. 🥊\r\n"  # characters of 1 to 4 bytes


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(file_cache, "CHUNK", 7)
    monkeypatch.setattr(text_files, "SAVE_CHUNKS", 1)


@pytest.fixture
def folder(tmp_path):
    """Three files, one with a byte order mark, and one that is hidden."""
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    (folder / "a.txt").write_text("\ufeff" + TEXT, encoding="utf-8", newline="")
    (folder / "b.txt").write_text(TEXT * 2, encoding="utf-8", newline="")
    (folder / "more" / "c.txt").write_text("end", encoding="utf-8")
    (folder / ".hidden").write_text("hidden", encoding="utf-8")
    return folder


def cache_of(folder, tmp_path):
    return lk.text.TextCache(lk.text.find_texts(folder), tmp_path / "cache")


def decoded(text, vocabulary):
    return vocabulary.decode(np.concatenate(list(text.blocks())))


def test_files_folders_and_globs_are_found(folder, monkeypatch):
    names = [file.relative_to(folder).as_posix() for file in lk.text.find_texts(folder)]
    assert names == ["a.txt", "b.txt", "more/c.txt"]
    assert lk.text.find_texts(folder / "a.txt") == [folder / "a.txt"]
    assert lk.text.find_texts(f"{folder}/**/*.txt") == lk.text.find_texts(folder)
    assert [file.name for file in lk.text.find_texts(f"{folder}/[ab].txt")] == ["a.txt", "b.txt"]
    for nothing in (folder / "none", f"{folder}/*.md"):
        with pytest.raises(ValueError, match=r"a text file, a folder with text files, or a glob"):
            lk.text.find_texts(nothing)


def test_the_text_comes_back_in_the_smallest_type(folder, tmp_path):
    text, vocabulary = cache_of(folder, tmp_path).open()
    assert text.codes.dtype == np.uint8 and isinstance(text.codes, np.memmap) and not text.in_memory
    assert vocabulary == lk.text.CharacterVocabulary.from_text(TEXT + "end")
    assert decoded(text, vocabulary) == TEXT * 3 + "end" and len(text) == 3 * len(TEXT) + 3
    assert decoded(text[5:9], vocabulary) == TEXT[5:9]
    starts = np.array([3, 180, 3])
    expected = [vocabulary.encode((TEXT * 3 + "end")[start : start + 4]) for start in starts]
    np.testing.assert_array_equal(text.windows(starts, 4), expected)


def test_many_characters_need_a_larger_type(tmp_path):
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    (tmp_path / "text.txt").write_text(letters * 2, encoding="utf-8")
    text, vocabulary = cache_of(tmp_path / "text.txt", tmp_path).open()
    assert text.codes.dtype == np.uint16 and decoded(text, vocabulary) == letters * 2


def test_a_vocabulary_gives_the_ids_and_must_know_every_character(folder, tmp_path):
    cache = cache_of(folder, tmp_path)
    larger = lk.text.CharacterVocabulary.from_text(TEXT + "end, and 123")
    text, vocabulary = cache.open(larger)
    assert vocabulary is larger and decoded(text, larger) == TEXT * 3 + "end"
    with pytest.raises(ValueError, match=r"only the 3 characters of the vocabulary.* unknown \('\\n', '\\r', ' '"):
        cache.open(lk.text.CharacterVocabulary.from_text("end"))


@pytest.mark.parametrize("saves", [1, 9, 30])
def test_an_encoding_that_is_cut_off_is_resumed(folder, tmp_path, monkeypatch, saves):
    whole = cache_of(folder, tmp_path / "whole").encode()
    cache, calls, encode = cache_of(folder, tmp_path), [], text_files._Encoding._encode_chunk

    def cut(encoding, file, chunk):
        calls.append(len(chunk))
        if len(calls) == saves + 1:
            encoding._codes.append(np.zeros(4, int))  # behind the last state
            raise KeyboardInterrupt
        encode(encoding, file, chunk)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(text_files._Encoding, "_encode_chunk", cut)
        cache.encode()
    assert not (cache.folder / file_cache.INDEX).exists()
    done, calls[:] = calls[:-1], []
    monkeypatch.setattr(text_files._Encoding, "_encode_chunk", lambda *a: (calls.append(len(a[2])), encode(*a)))
    assert cache.encode() == whole
    assert sum(done) + sum(calls) == sum(file.stat().st_size for file in cache.files)  # nothing was encoded twice
    text, vocabulary = cache.open()
    assert decoded(text, vocabulary) == TEXT * 3 + "end"


@pytest.mark.parametrize(
    "change", ["nothing", "touched", "content", "longer", "codes", "truncated", "index", "half", "type"]
)
def test_what_is_not_whole_or_of_other_files_is_made_again(folder, tmp_path, monkeypatch, change):
    cache = cache_of(folder, tmp_path)
    index, runs, run = cache.encode(), [], text_files._Encoding.run
    monkeypatch.setattr(text_files._Encoding, "run", lambda encoding: runs.append(1) or run(encoding))
    codes, expected = cache.codes_path("uint8"), TEXT * 3 + "end"
    if change == "touched":
        os.utime(folder / "a.txt", ns=(1, 1))
    elif change in ("content", "longer"):
        end = "END" if change == "content" else "the end"
        (folder / "more" / "c.txt").write_text(end, encoding="utf-8")
        os.utime(folder / "more" / "c.txt", ns=(1, 1))
        expected = TEXT * 3 + end
    elif change == "codes":
        codes.write_bytes(codes.read_bytes()[:-1] + b"\0")
    elif change == "truncated":
        codes.write_bytes(codes.read_bytes()[:-1])
    elif change == "index":
        (cache.folder / file_cache.INDEX).unlink()
    elif change == "half":
        (cache.folder / file_cache.INDEX).write_text('{"files": [')
    elif change == "type":
        (cache.folder / file_cache.INDEX).write_text(
            json.dumps({**index, "codes": {"type": "../../codes", "count": 1}})
        )
    text, vocabulary = cache.open()
    assert len(runs) == (change not in ("nothing", "touched")) and decoded(text, vocabulary) == expected
    if change == "touched":
        found = json.loads((cache.folder / file_cache.INDEX).read_text())
        assert found["files"] == cache.stamps() != index["files"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one line\ntw\xc3\xb6 \xff three", r"line 2, column 5 \(byte 14\): 0xff"),
        (b"cut in the middle: \xf0\x9f", r"line 1, column 20 \(byte 19\): 0xf0"),
        (b"\xef\xbb\xbfab\0c\xff", r"line 1, column 3 \(byte 5\): 0x00"),
        (b"", "text files that are not empty"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        cache_of(tmp_path / "a.txt", tmp_path).encode()


def test_rows_of_a_file_that_was_cut_since_it_was_opened_are_refused(tmp_path):
    file = lk.text.RowsFile(tmp_path, "rows")
    file.append(np.arange(9), np.array([4, 0, 5]))
    file.save()
    file.close()
    rows = lk.text.Rows.open(tmp_path, "rows", file.state)
    values, lengths = rows.read(np.array([2, 1, 0]))
    assert values.tolist() == [4, 5, 6, 7, 8, 0, 1, 2, 3] and lengths.tolist() == [5, 0, 4]
    (path, _) = row_paths(tmp_path, "rows", file.state)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ValueError, match=f"Expected {path} to have 5 bytes from 4 on, as when it was encoded. .*: 4"):
        rows.read(np.array([2]))
