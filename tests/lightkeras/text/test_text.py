"""Tests of lightkeras/text.py."""

import codecs
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightkeras as lk
from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.subwords import SubwordVocabulary
from lightkeras.text.tokenize import detokenize, normalize_text, read_text, tokenize
from lightkeras.text.words import WordVocabulary

# Every code point, lone surrogates and the planes beyond the first included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), min_size=1)


def write(tmp_path, data: bytes):
    path = tmp_path / "file.txt"
    path.write_bytes(data)
    return path


# read_text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_read_text_gives_back_what_was_written(tmp_path_factory, text):
    if text.startswith("\ufeff"):
        text = "x" + text  # a byte order mark at the very start would be dropped
    assert read_text(write(tmp_path_factory.mktemp("text"), text.encode())) == text


def test_read_text_drops_only_the_first_byte_order_mark_and_keeps_line_ends(tmp_path):
    data = codecs.BOM_UTF8 + "a\r\nb\rc\n\ufeffñ".encode()
    assert read_text(write(tmp_path, data)) == "a\r\nb\rc\n\ufeffñ"


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"\xff", "line 1, column 1 (byte 0): 0xff"),
        (b"one\ntwo\n0123456789abc\xff", "line 3, column 14 (byte 21): 0xff"),
        # The column counts characters, the offset bytes: a 4-byte and a 2-byte character stand before it.
        ("one\n😀é".encode() + b"\x80x", "line 2, column 3 (byte 10): 0x80"),
        (codecs.BOM_UTF8 + b"ab\xfe", "line 1, column 3 (byte 5): 0xfe"),
        (codecs.BOM_UTF8 + b"a\r\nb\xfe", "line 2, column 2 (byte 7): 0xfe"),
        (b"cut short \xe2\x82", "line 1, column 11 (byte 10): 0xe2"),
    ],
)
def test_read_text_names_the_place_of_the_first_bad_byte(tmp_path, data, where):
    path = write(tmp_path, data)
    with pytest.raises(ValueError) as error:
        read_text(path)
    assert str(error.value) == f"Expected UTF-8 text. Received: {path}, {where}"


@pytest.mark.parametrize("data", [b"", codecs.BOM_UTF8])
def test_read_text_refuses_an_empty_file(tmp_path, data):
    path = write(tmp_path, data)
    with pytest.raises(ValueError, match=r"Expected a text file .* Received: .*file\.txt, 0 characters"):
        read_text(path)


# Vocabulary


def test_ids_worked_by_hand():
    vocabulary = CharacterVocabulary.from_text("hello 😀")
    assert vocabulary.tokens == (" ", "e", "h", "l", "o", "😀")
    assert len(vocabulary) == 6
    ids = vocabulary.encode("hello 😀")
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, [2, 1, 3, 3, 4, 0, 5])
    assert vocabulary.decode(ids) == "hello 😀"
    assert vocabulary.decode([5, 0]) == "😀 "


def test_the_order_of_tokens_is_kept():
    np.testing.assert_array_equal(CharacterVocabulary(("c", "a", "b")).encode("abc"), [1, 2, 0])


@given(ANY_TEXT)
def test_encode_decode_round_trip(text):
    vocabulary = CharacterVocabulary.from_text(text)
    assert vocabulary.tokens == tuple(sorted(set(text)))
    assert vocabulary.encode(text).tolist() == [vocabulary.tokens.index(c) for c in text]
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(ANY_TEXT)
def test_state_round_trips_through_json(text):
    vocabulary = CharacterVocabulary.from_text(text)
    again = CharacterVocabulary.from_state_dict(json.loads(json.dumps(vocabulary.state_dict())))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again.fingerprint == vocabulary.fingerprint


def test_empty_text_and_ids():
    vocabulary = CharacterVocabulary("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.encode("").dtype == np.int32
    assert vocabulary.decode([]) == ""


def test_a_text_of_many_blocks():
    text = "The quick brown fox, señor! 😀\n" * 170_000  # 5.1 million characters
    vocabulary = CharacterVocabulary.from_text(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_encode_names_unknown_characters():
    with pytest.raises(ValueError) as error:
        CharacterVocabulary("abc").encode("abxa☃x\n")
    assert str(error.value) == (
        "Expected `text` to hold only the 3 characters of the vocabulary. "
        "Received: 3 unknown ('\\n', 'x', '☃'), the first 'x' at position 2"
    )


def test_encode_names_at_most_ten_unknown_characters():
    with pytest.raises(ValueError, match=r"11 unknown \('0', .*, '9', \.\.\.\), the first '9' at position 0"):
        CharacterVocabulary("abc").encode("9876543210x")


def test_encode_finds_an_unknown_character_in_a_later_block(monkeypatch):
    monkeypatch.setattr("lightkeras.text.characters._BLOCK", 4)
    with pytest.raises(ValueError, match="'z' at position 9"):
        CharacterVocabulary("abc").encode("abcabcabcz")


def test_encode_refuses_gaps_between_and_characters_beyond_the_known_ones():
    vocabulary = CharacterVocabulary(("a", "c"))
    for unknown in ("b", "d", "\0", "\U0010ffff"):
        with pytest.raises(ValueError, match="at position 1"):
            vocabulary.encode("a" + unknown)


@pytest.mark.parametrize("bad", [3, -1])
def test_decode_refuses_ids_out_of_range(bad):
    with pytest.raises(ValueError, match=rf"`ids` to be from 0 to 2\. Received: {bad} at position 1"):
        CharacterVocabulary("abc").decode([0, bad])


def test_decode_finds_an_id_out_of_range_in_a_later_block(monkeypatch):
    monkeypatch.setattr("lightkeras.text.characters._BLOCK", 4)
    with pytest.raises(ValueError, match="Received: 7 at position 9"):
        CharacterVocabulary("abc").decode([0, 1, 2] * 3 + [7])


@pytest.mark.parametrize("ids", [[0.0, 1.0], [[0, 1]], 0])
def test_decode_refuses_other_shapes_and_types(ids):
    with pytest.raises(ValueError, match=r"Expected `ids` to be integers of shape \(length,\)"):
        CharacterVocabulary("abc").decode(ids)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [((), "at least one"), (("ab",), "single"), ((1,), "single"), (("a", "b", "a"), "distinct.*'a'")],
)
def test_tokens_are_checked(tokens, message):
    with pytest.raises(ValueError, match=message):
        CharacterVocabulary(tokens)


def test_from_text_refuses_an_empty_text():
    with pytest.raises(ValueError, match="Expected `text` to be at least one character"):
        CharacterVocabulary.from_text("")


def test_fingerprint_tells_vocabularies_apart_and_is_stable():
    # printf '["a", "b"]' | sha256sum
    assert CharacterVocabulary("ab").fingerprint == "3554d2b8a1e34099"
    assert CharacterVocabulary("ba").fingerprint != CharacterVocabulary("ab").fingerprint
    assert CharacterVocabulary("ba") != CharacterVocabulary("ab")
    assert repr(CharacterVocabulary("ab")) == "CharacterVocabulary(2 tokens, fingerprint='3554d2b8a1e34099')"


def test_vocabulary_is_immutable():
    with pytest.raises(AttributeError):
        CharacterVocabulary("ab").tokens = ("c",)


def test_no_tensorflow_is_imported():
    code = "import sys, lightkeras.text; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [  # `_` stands for the mark of a joint
        ("I'm here, he said.", "I _'m here _, he said _."),
        ("\"Tom's\" dogs' (2)", "\"_ Tom _'s _\" dogs _' (_ 2 _)"),
        ("¿Qué...? ¡Sí!", "¿_ Qué _. _. _. _? ¡_ Sí _!"),
        ("a-b 1,000 - x", "a _-_ b 1 _,_ 000 - x"),
        ("'tis don’t", "'_ tis don _’t"),
        ("नमस्ते سَلام", "नमस्ते سَلام"),  # vowel signs are of their words
        ("", ""),
    ],
)
def test_tokens_worked_by_hand(text, tokens):
    assert [token.replace("\uffed", "_") for token in tokenize(text)] == tokens.split()
    assert detokenize(tokenize(text)) == text


@given(st.text())
def test_detokenize_undoes_tokenize(text):
    assert detokenize(tokenize(text)) == normalize_text(text)


def test_text_is_normalized():
    assert normalize_text(" e\u0301\u00a0a\u200b\n\ufeffb\uffed ") == "é a b■"


def test_detokenize_takes_any_tokens():
    mark = "\uffed"
    assert detokenize([f"{mark}.", "a", f"{mark},{mark}", f"{mark}b", mark]) == ". a,b"


# WordVocabulary

SENTENCES = [["b", "a", "a", "<unk>"], ["c", "b", "a"], ["d"]]


def test_words_are_ordered_by_count_then_by_code_point():
    vocabulary = WordVocabulary.from_tokens(SENTENCES)
    assert vocabulary.words == ("a", "b", "<unk>", "c", "d") and len(vocabulary) == 9
    assert WordVocabulary.from_tokens(reversed(SENTENCES)) == vocabulary
    assert WordVocabulary.from_tokens(SENTENCES, max_size=6).words == ("a", "b")
    assert WordVocabulary.from_tokens(SENTENCES, min_count=2).words == ("a", "b")
    assert WordVocabulary.from_counts({"x": 1, "y": 3}, min_count=3).words == ("y",)


def test_word_ids_worked_by_hand():
    vocabulary = WordVocabulary(("a", "b"))
    assert (lk.text.PAD, lk.text.UNKNOWN, lk.text.START, lk.text.END) == (0, 1, 2, 3)
    ids = vocabulary.encode(["b", "what", "a"])
    assert ids.tolist() == [5, 1, 4] and ids.dtype == np.int32
    assert vocabulary.encode([]).shape == (0,) and vocabulary.encode([]).dtype == np.int32
    assert vocabulary.decode([2, 5, 0, 1, 4, 3, 5, 99]) == ["b", "<unk>", "a"]
    assert vocabulary.decode([]) == [] and vocabulary.decode_text([3]) == ""
    assert vocabulary.decode_text(vocabulary.encode_texts(["b a b"])[0]) == "b a b"


def test_word_state_round_trips_through_json():
    vocabulary = WordVocabulary.from_tokens([tokenize("¿Qué? Sí.")])
    again = WordVocabulary.from_state_dict(json.loads(json.dumps(vocabulary.state_dict())))
    assert again == vocabulary and again.fingerprint == vocabulary.fingerprint and hash(again) == hash(vocabulary)
    assert WordVocabulary(("a", "b")).fingerprint == "3554d2b8a1e34099"  # printf '["a", "b"]' | sha256sum
    assert repr(WordVocabulary(("a", "b"))) == "WordVocabulary(6 ids, fingerprint='3554d2b8a1e34099')"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: WordVocabulary(()), ValueError, "at least one word"),
        (lambda: WordVocabulary(("a", "")), ValueError, "texts of at least one character"),
        (lambda: WordVocabulary(("a", "b", "a")), ValueError, "distinct. Received: 'a' more than once"),
        (lambda: WordVocabulary.from_tokens([]), ValueError, "`min_count` to be at most 0"),
        (lambda: WordVocabulary.from_tokens(SENTENCES, min_count=4), ValueError, "at most 3"),
        (lambda: WordVocabulary.from_tokens(SENTENCES, max_size=4), ValueError, "an int of at least 5 or None"),
        (lambda: WordVocabulary(("a",)).encode("a"), TypeError, "a list of words"),
        (lambda: WordVocabulary(("a",)).decode([4, 5]), ValueError, "from 0 to 4. Received: 5 at position 1"),
        (lambda: WordVocabulary(("a",)).decode([[4]]), ValueError, "integers of shape"),
    ],
)
def test_bad_words_are_named(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


# SubwordVocabulary


@pytest.fixture(scope="module")
def subwords():
    return SubwordVocabulary.from_texts(["the cat sees the dog.", "The dogs see cats."] * 3, 40)


def test_subwords_round_trip(subwords):
    assert len(subwords) == 40
    for text in ("the cat sees.", "Theo's dog", "", "cast"):
        (ids,) = subwords.encode_texts([text])
        assert ids.dtype == np.int32 and not set(ids.tolist()) & {0, 2, 3}
        known = text.replace("'", "<unk>") if "'" in text else text
        assert subwords.decode_text([2, *ids, 3, 9]).replace(" <unk> ", "<unk>") == known
    assert subwords.encode_texts(["the"])[0].size == 1  # a frequent word is one piece
    assert subwords.encode_texts(["שלום"])[0].tolist()[-1] == 1


def test_subword_state_round_trips_through_json(subwords):
    again = SubwordVocabulary.from_state_dict(json.loads(json.dumps(subwords.state_dict())))
    assert again == subwords and again.fingerprint == subwords.fingerprint
    assert again.encode_texts(["the cats"])[0].tolist() == subwords.encode_texts(["the cats"])[0].tolist()
    made_again = SubwordVocabulary.from_texts(["the cat sees the dog.", "The dogs see cats."] * 3, 40)
    assert made_again == subwords


@pytest.mark.parametrize("size", [6, 8000])
def test_a_number_of_subwords_that_cannot_be_is_refused(subwords, size):
    with pytest.raises(ValueError, match=rf"Expected texts with {size} pieces of words\. Received: .*{size}"):
        SubwordVocabulary.from_texts(["the cat sees the dog."], size)
