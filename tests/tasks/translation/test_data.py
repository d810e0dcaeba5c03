"""Translation's data: reading, splits by group, ids and back, and the grammar that comes with it."""

import itertools
import json
import os
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lightkeras as lk
from lightkeras.text import rows_cache
from tasks.translation import TranslationData, grammar
from tasks.translation.corpus import (
    Pairs,
    clean_as_tutorial,
    encode_in_memory,
    encoding,
    find_faults,
    read_pairs,
    reading,
    split_pairs,
)
from tasks.translation.data import SPA_ENG
from tasks.translation.grammar import words as lexicon

SPA_TXT = os.path.join(os.environ.get("LIGHTKERAS_DATA", ""), "spa_eng", "spa.txt")
real = pytest.mark.skipif(not os.path.exists(SPA_TXT), reason="LIGHTKERAS_DATA has no spa_eng/spa.txt")
SPLITS = ("train", "validation", "test")


def made(source="sample", **arguments):
    data = TranslationData(source, **{"batch_size": 8, **arguments})
    data.setup("fit")
    return data


def written(tmp_path, text, name="pairs.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def many(tmp_path, count=20):
    """A file of `count` pairs that share nothing: word "ab" is "AB" but for its first letter."""
    names = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(count)]
    return written(tmp_path, "".join(f"x{name} one.\ty{name} uno.\n" for name in names))


def pairs_in(*paths, skip_bad_lines=False):
    """The pairs of a file, or of two."""
    find_faults(paths, skip_bad_lines)
    return [tuple(pair) for pairs, _ in read_pairs(paths) for pair in pairs]


def pairs_of(pairs):
    return Pairs(encode_in_memory([pairs], "none", "word"))


@pytest.fixture(scope="module")
def sample():
    return made()


# ---- reading


def test_two_columns_or_three_are_read(tmp_path):
    two = written(tmp_path, "Hi.\tHola.\r\nGo!\t¡Ve!\r\n", "two")
    three = written(tmp_path, "\ufeffHi.\tHola.\tby\nGo!\t¡Ve!\tme", "three")
    expected = [("Hi.", "Hola."), ("Go!", "¡Ve!")]
    assert pairs_in(tmp_path / "two") == pairs_in(tmp_path / "three") == expected
    assert pairs_in(tmp_path / "three", skip_bad_lines=True) == expected
    assert two != three


def test_a_line_ends_where_python_ends_it_and_nowhere_else(tmp_path):
    written(tmp_path, "a\u2028b\tc\x85d\re\x0cf\tg\x1ch\r\ni\tj\u2029", "pairs")
    expected = [("a\u2028b", "c\x85d"), ("e\x0cf", "g\x1ch"), ("i", "j\u2029")]
    assert pairs_in(tmp_path / "pairs") == pairs_in(tmp_path / "pairs", skip_bad_lines=True) == expected
    for name in "ab":
        written(tmp_path, "a\x0cb\r\nc\u2028\rd\n", name)
    assert pairs_in(tmp_path / "a", tmp_path / "b") == [(x, x) for x in ("a\x0cb", "c\u2028", "d")]


def test_an_empty_or_binary_file_has_no_pairs_to_skip(tmp_path):
    written(tmp_path, "", "empty")
    with pytest.raises(ValueError, match="a file with pairs"):
        pairs_in(tmp_path / "empty", skip_bad_lines=True)
    written(tmp_path, "a\tb\nc\0\td\n", "nul")
    assert find_faults((tmp_path / "nul",), skip_bad_lines=True) == (2, 1, "line 2 (a NUL character)")
    assert pairs_in(tmp_path / "nul", skip_bad_lines=True) == [("a", "b")]


def test_aligned_files_are_read(tmp_path):
    paths = [written(tmp_path, "Hi.\nGo!\n", "a"), written(tmp_path, "Hola.\r\n¡Ve!\r\n", "b")]
    assert pairs_in(tmp_path / "a", tmp_path / "b") == [("Hi.", "Hola."), ("Go!", "¡Ve!")]
    words = [chr(97 + i) * 3 for i in range(9)]
    for name in "ab":
        written(tmp_path, "".join(f"{word} {name}\n" for word in words), name)
    data = made(",".join(paths), min_count=1)
    assert list(data.pairs) == [(f"{word} b", f"{word} a") for word in words]


BAD = "Hi.\tHola.\nnothing\nGo!\t¡Ve!\na\tb\tc\n \tx\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BAD, r"3 of 5 that are not: line 2 \(0 tabs, not 1\), line 4 \(2 tabs, not 1\), line 5 \(column 1 empty\)"),
        ("a\t\u3000\n" * 7, r"line 5 \(column 2 empty\) and 2 more"),
        ("Hi.\tHola.\n\n", r"1 of 2 .* line 2 \(0 tabs, not 1\)"),
        (b"Hi.\tHola.\nGo.\tV\xe9.\n", r"UTF-8 text\. Received: .*pairs\.txt, line 2, column 6 \(byte 15\): 0xe9"),
        ("", "a text file that is not empty"),
        ("Hi.\tHola.\nGo.\tV\0e.\n", r"UTF-8 text\. Received: .*pairs\.txt, line 2, column 6 \(byte 15\): 0x00"),
        ("Hi.\tHola.\n".encode("utf-16"), r"UTF-8 text\. Received: .*line 1, column 1 \(byte 0\): 0xff"),
        ("Hi.\tHola.\n".encode("utf-16-le"), r"UTF-8 text\. Received: .*line 1, column 2 \(byte 1\): 0x00"),
    ],
)
def test_lines_that_are_no_pairs_are_refused(tmp_path, text, message):
    data = TranslationData(written(tmp_path, text))
    with pytest.raises(ValueError, match=message):
        data.setup("fit")


def test_lines_that_are_no_pairs_are_skipped_and_counted_where_asked(tmp_path):
    path = written(tmp_path, BAD.encode() + b"V\xe9\tb\n")
    skipping = TranslationData(path, skip_bad_lines=True)
    skipped = pytest.warns(UserWarning, match=r"Skipped 4 of 6 lines of .*line 6 \(not UTF-8\)")
    with skipped, pytest.raises(ValueError, match="2 pairs in 2 groups"):
        skipping.setup("fit")
    assert list(skipping.pairs) == [("Hola.", "Hi."), ("¡Ve!", "Go!")]
    with pytest.raises(ValueError, match=r"Received: 1 of 1 that are not"):
        TranslationData(written(tmp_path, "nothing"), skip_bad_lines=True).setup("fit")


def test_aligned_files_of_different_lengths_are_refused(tmp_path):
    paths = [written(tmp_path, "a\nb\n", "a"), written(tmp_path, "a\n", "b")]
    with pytest.raises(ValueError, match=r"as many lines as each other\. Received: .*a with 2, .*b with 1"):
        made(",".join(paths))


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Every corpus is larger than memory: blocks of a few lines, a state after each."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for module, name, value in ((encoding, "IN_MEMORY", 0), (rows_cache, "SAVE_BLOCKS", 1), (reading, "BLOCK", 4)):
        monkeypatch.setattr(module, name, value)


def everything(data):
    """All that a task gets of the data."""
    sets = {split: data._batches(split, split == "train") for split in SPLITS}
    batches = {s: [jsonable(b) for b in one.stream(3, epochs=2).as_numpy_iterator()] for s, one in sets.items()}
    references = {split: data.references(split) for split in SPLITS}
    return batches, references, {split: data.sources(split) for split in SPLITS}, data.state_dict(), data.bleu


def jsonable(batch):
    return {name: (str(array.dtype), array.tolist()) for name, array in batch.items()}


PAIRED = [f"x{i % 30:x} one {i % 7}.\ty{i:x} uno{' más' * (i % 5)}.\r\n" for i in range(90)]


@pytest.mark.parametrize("vocabulary", ["word", "subword"])
def test_a_corpus_on_the_disk_gives_what_one_in_memory_gives(tmp_path, monkeypatch, request, vocabulary):
    lines = "".join([*PAIRED, *PAIRED[:9], "bad\n"])
    (tmp_path / "a.txt").write_text(lines, encoding="utf-8-sig", newline="")
    (tmp_path / "b.txt").write_text("".join(PAIRED[5::7]), encoding="utf-8", newline="")
    arguments = {"vocabulary": vocabulary, "vocabulary_size": 60, "min_count": 1, "max_length": 6, "batch_tokens": 99}
    skipped = r"Skipped 1 of 100 lines of .*a\.txt: line 100 \(0 tabs, not 1\)"
    with pytest.warns(UserWarning, match=skipped):
        expected = everything(made(f"{tmp_path}/*.txt", skip_bad_lines=True, **arguments))
    request.getfixturevalue("large")
    encode, calls = encoding.Encoder.encode, []

    def cut(encoder, pairs):
        calls.append(len(pairs))
        if len(calls) == 12:
            raise KeyboardInterrupt
        return encode(encoder, pairs)

    monkeypatch.setattr(encoding.Encoder, "encode", cut)
    data = TranslationData(f"{tmp_path}/*.txt", batch_size=8, skip_bad_lines=True, **arguments)
    with pytest.raises(KeyboardInterrupt):
        data.prepare_data()
    data.prepare_data()
    assert sum(calls) - calls[11] == 99 + len(PAIRED[5::7])  # nothing was encoded twice
    with pytest.warns(UserWarning, match=skipped):
        data.setup("fit")
    assert everything(data) == expected and not data.pairs.corpus.words[0].in_memory
    with pytest.raises(ValueError, match=r"1 of 100 that are not: line 100"):
        made(f"{tmp_path}/*.txt", **arguments)  # what was skipped is refused by a call that does not skip


def test_a_damaged_corpus_is_encoded_again(large, tmp_path):
    path = many(tmp_path)
    expected = list(made(path, min_count=1).pairs)
    (folder,) = (tmp_path / "keras" / "datasets" / "texts").glob("pairs-*")
    for name in ("keys.uint8", "list-1.uint8", "words-0.uint8", "index.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        assert list(made(path, min_count=1).pairs) == expected
        assert (folder / name).read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "up"}, "`direction` to be one of 'second-to-first', 'first-to-second'"),
        ({"vocabulary": "words"}, "vocabulary='words'. Did you mean \"word\"?"),
        ({"cleaning": True}, "`cleaning` to be one of 'none', 'tutorial'"),
        ({"vocabulary_size": 4}, "`vocabulary_size` to be an int of at least 5 or None"),
        ({"max_length": 0}, "`max_length` to be a positive int"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "`val_fraction` to be below 1 with test_fraction"),
        ({"source": "nowhere"}, '`source` to be "download", "sample", or an existing file or folder'),
        ({"source": "a,nowhere"}, "source='a'"),
        ({"max_length": 3}, "`max_length` to be 5 or more, the length of the shortest training pair"),
        ({"min_count": 100_000}, "`min_count` to be at most"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError) as error:
        made(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("count", [1, 2])
def test_a_corpus_too_small_to_split_is_refused(tmp_path, count):
    received = f"Received: source='.*pairs.txt, {count} pairs in {count} g"
    with pytest.raises(ValueError, match=f"3 groups of pairs or more.* {received}"):
        made(many(tmp_path, count))


def test_what_cleaning_empties_is_left_out_with_a_warning(tmp_path):
    path = many(tmp_path)
    with open(path, "a", encoding="utf-8") as file:
        file.write("1984\t1984\nда\tsí\n")
    with pytest.warns(UserWarning, match="Left out 2 of 22 pairs, of which cleaning='tutorial' leaves nothing"):
        data = made(path, cleaning="tutorial")
    assert len(data.pairs) == 20


def test_the_tutorials_cleaning():
    assert clean_as_tutorial("¿Todavía está en CASA?") == "¿todavia esta en casa?"  # the tutorial's own example
    assert clean_as_tutorial('"I\'m 20," Él dijo: ñandú; ¡sí!') == "im , el dijo nandu si!"


def test_the_official_file_is_pinned():
    assert SPA_ENG.url.endswith("/data/spa-eng.zip") and SPA_ENG.member == "spa-eng/spa.txt"
    assert SPA_ENG.member_checksum.endswith("c5952e8da0ee8ba45574c")


# ---- splits

sentences = st.text("abAB á.!1", min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=30, unique=True), st.floats(0.01, 0.4))
def test_no_sentence_is_on_two_sides(pairs, fraction):
    backwards, pairs = pairs_of(pairs[::-1]), pairs_of(pairs)
    try:
        sides = split_pairs(pairs, fraction, fraction)
    except ValueError:
        return  # fewer than three groups
    assert set(sides) == {0, 1, 2}
    for column in (0, 1):
        of_side = [
            {pair[column].lower() for pair, side in zip(pairs, sides, strict=True) if side == s} for s in range(3)
        ]
        assert not (of_side[0] & of_side[1] or of_side[0] & of_side[2] or of_side[1] & of_side[2])
    found = dict(zip(backwards, split_pairs(backwards, fraction, fraction), strict=True))
    assert found == dict(zip(pairs, sides, strict=True))  # the order of the file does not matter


def test_a_chain_of_shared_sentences_stays_together():
    chain = [(f"s{i // 2}q", f"t{(i + 1) // 2}q") for i in range(40)]  # digits are no difference: all one group
    letters = "abcdefghijklmnopqrst"
    linked = [(f"{letters[i // 2]} one", f"{letters[(i + 1) // 2]} uno") for i in range(38)]
    others = [(f"x{c}", f"y{c}") for c in letters]
    sides = split_pairs(pairs_of(chain + linked + others), 0.1, 0.1)
    assert len(set(sides[:40])) == 1 and len(set(sides[40:78])) == 1
    # of 60 sources, 6 each: the two long groups do not fit, and stay in training
    assert np.bincount(sides).tolist() == [78 + 8, 6, 6]


def test_splits_do_not_depend_on_case_accents_and_signs():
    pairs = [("¡Sí!", "Yes"), ("si", "If"), ("SÍ.", "Oh yes"), ("no", "No!"), ("nó", "Nope"), ("vale", "ok")]
    sides = split_pairs(pairs_of(pairs), 0.2, 0.2)
    assert len(set(sides[:3])) == 1 and len(set(sides[3:5])) == 1 and len(set(sides)) == 3


def test_evaluation_has_each_source_once_with_all_references(tmp_path):
    several = "".join(
        f"{word} it.\tdi {word[::-1]}.\n{word} that.\tdi {word[::-1]}.\n" for word in ("ab", "cd", "ef", "gh")
    )
    data = made(written(tmp_path, several + several), min_count=1)
    assert len(data.pairs) == 8  # the second time is no other pair
    for split in ("validation", "test"):
        (source,), (references,) = data.sources(split), data.references(split)
        name = source[3:5][::-1]
        assert references == [f"{name} it.", f"{name} that."]
        (batch,) = data._batches(split, shuffle=False).stream(epochs=1).as_numpy_iterator()
        assert data.references_at(batch["index"][:1]) == [references]
        assert data.decode(batch["target"][0, 1:]) == "<unk> it."  # its own word is not of the training sentences
        assert batch["weight"].tolist() == [1] + [0] * 7
    train = data.train_dataset()
    assert train.size == 4


# ---- ids


def test_a_batch_is_the_pairs_of_its_index(sample):
    seen = []
    for batch in sample.train_dataset().stream(seed=1, epochs=1).as_numpy_iterator():
        assert batch["source"].shape == batch["target"].shape and batch["source"].dtype == np.int32
        for source, target, index, weight in zip(
            *(batch[n] for n in ("source", "target", "index", "weight")), strict=True
        ):
            pair = sample.pairs[index]
            assert sample.source_vocabulary.decode_text(source) == pair[0] and sample.decode(target) == pair[1]
            length = np.count_nonzero(target)
            assert target[0] == 2 and target[length - 1] == 3 and (target[:length] != 0).all()
            assert source[np.count_nonzero(source) - 1] == 3
            seen += [index] * int(weight)
    assert len(seen) == len(set(seen)) == sample.train_dataset().size


def test_words_of_evaluation_are_not_in_the_vocabulary(tmp_path):
    data = made(many(tmp_path), min_count=1)
    evaluated = data.sources("validation") + data.sources("test")
    for source in evaluated:
        ids = data.encode(source)
        assert ids[0] == 1 and (ids[1:] > 2).all()  # its own word is unknown, "uno" and "." are not
    assert all((data.encode(source) != 1).all() for source in data.sources("train"))


def test_long_pairs_leave_training_and_are_cut_in_evaluation():
    whole, short = made(), made(max_length=6)
    assert short.sources("test") == whole.sources("test") and short.references("test") == whole.references("test")
    assert short.train_dataset().size < whole.train_dataset().size
    assert max(len(short.encode(source)) for source in short.sources("train")) == 7
    assert max(len(short.encode(source)) for source in short.sources("test")) > 7
    for dataset in (short.train_dataset(), short.test_dataset()):
        assert max(batch["target"].shape[1] for batch in dataset.stream(epochs=1)) <= 8


@pytest.mark.parametrize("vocabulary", ["word", "subword"])
def test_any_sentence_can_be_encoded(vocabulary):
    data = made(vocabulary=vocabulary, vocabulary_size=150)
    assert data.encode("").tolist() == data.encode(" \u200b\n").tolist() == [3]
    unknown = data.encode("שלום עולם")
    assert 1 in unknown and unknown[-1] == 3
    assert len(data.encode("casa " * 5000)) >= 5001
    assert "<unk>" in data.source_vocabulary.decode_text(unknown)
    for source in data.sources("test")[:20]:
        again = data.source_vocabulary.decode_text(data.encode(source))
        assert again == source or (vocabulary == "word" and "<unk>" in again)  # 150 ids have no room for every word


@pytest.mark.parametrize("vocabulary", ["word", "subword"])
def test_a_trained_run_needs_no_data(vocabulary):
    data = made(vocabulary=vocabulary, vocabulary_size=150)
    assert len(data.source_vocabulary) == 150 and len(data.target_vocabulary) <= 150
    state = json.loads(json.dumps(data.state_dict()))
    again = TranslationData("nowhere", vocabulary=vocabulary)
    again.load_state_dict(state)
    sentence = "El gato ve la casa blanca."
    assert again.encode(sentence).tolist() == data.encode(sentence).tolist()
    assert again.state_dict() == state and made(vocabulary=vocabulary, vocabulary_size=150).state_dict() == state


def test_loaded_vocabularies_stay():
    small = made(vocabulary_size=50)
    data = TranslationData(batch_size=8, source="sample")
    data.load_state_dict(small.state_dict())
    data.setup("test")
    assert (
        data.state_dict() == small.state_dict()
        and max(b["source"].numpy().max() for b in data.test_dataset().stream(epochs=1)) < 50
    )


def test_the_other_direction(sample):
    other = made(direction="first-to-second")
    assert [pair[::-1] for pair in other.pairs] == list(sample.pairs)
    assert len(other.target_vocabulary) > len(other.source_vocabulary)  # Spanish has more forms


# ---- the grammar


def test_the_grammar_agrees_and_swaps():
    by_english = {s.english: s for s in grammar.sentences()}
    assert len(by_english) == len({s.spanish for s in by_english.values()}) == 4000
    found = by_english["This small girl does not lose the white letter."]
    assert found.spanish == "Esta niña pequeña no pierde la carta blanca."
    # this small girl does not lose the white letter . -> esta niña pequeña no pierde la carta blanca .
    links = {(0, 0), (1, 2), (2, 1), (3, 3), (4, 3), (5, 4), (6, 5), (7, 7), (8, 6), (9, 8)}
    assert set(found.links) == links
    assert grammar.sentences()[0].english == grammar.sentences.__wrapped__(1)[0].english


def test_every_english_word_has_a_counterpart():
    for sentence in grammar.sentences():
        english, spanish = lk.text.tokenize(sentence.english), lk.text.tokenize(sentence.spanish)
        assert {i for i, _ in sentence.links} == set(range(len(english)))
        assert {j for _, j in sentence.links} <= set(range(len(spanish)))
        alone = [spanish[j] for j in range(len(spanish)) if j not in {j for _, j in sentence.links}]
        assert alone in ([], ["A"])  # of "A mi niña le gusta ..."


def test_feminine_and_plural_forms_agree():
    nouns = {form: noun.gender for noun in lexicon.BEINGS + lexicon.THINGS + lexicon.PLACES for form in noun.spanish}
    ends = {0: "o", 1: "a"}
    checked = 0
    for sentence in grammar.sentences():
        words = lk.text.tokenize(sentence.spanish)
        for noun, adjective in itertools.pairwise(words):
            stem = adjective.removesuffix("s")
            if noun in nouns and stem[:-1] + "o" in {a for _, a in lexicon.ADJECTIVES}:
                assert stem[-1] == ends[nouns[noun]] and adjective.endswith("s") == noun.endswith("s"), sentence
                checked += 1
    assert checked > 1000


# ---- the real corpus


@real
def test_the_corpus():
    data = TranslationData(SPA_TXT)
    pairs = pairs_in(pathlib.Path(SPA_TXT))
    assert len(pairs) == len(set(pairs)) == 118_964
    share = pairs[::97]
    for text in (text for pair in share for text in pair):
        assert (
            lk.text.detokenize(lk.text.tokenize(text))
            == data.clean(text)
            == " ".join(text.replace("\u200b", "").split())
        )


@real
def test_the_corpus_is_split_without_a_leak(tmp_path):
    lines = lk.text.read_text(SPA_TXT).split("\n")[:30_000:3]
    data = made(written(tmp_path, "\n".join(lines)), batch_size=64)
    texts = {
        split: [
            {text.casefold() for text in column}
            for column in zip(*(data.pairs[p] for p in data._places[split]), strict=True)
        ]
        for split in SPLITS
    }
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not texts[one][0] & texts[other][0] and not texts[one][1] & texts[other][1]
    wanted = round(0.02 * len({pair[0] for pair in data.pairs}))
    assert len(data.sources("validation")) == len(data.sources("test")) == wanted
    batches = list(data.train_dataset().stream(epochs=1).as_numpy_iterator())
    assert len({batch["source"].shape for batch in batches}) <= 8
    padding = sum((batch[n] == 0).sum() for batch in batches for n in ("source", "target"))
    assert padding / sum(batch[n].size for batch in batches for n in ("source", "target")) < 0.15


def test_batches_may_be_filled_by_tokens():
    data = made(batch_tokens=200, batch_size=4)
    for batch in data.train_dataset().stream(epochs=1):
        rows, width = batch["target"].shape
        assert rows % 4 == 0 and (rows * width <= 200 or rows == 4) and (rows + 4) * width > 200
        assert batch["source"].shape == (rows, width)
    with pytest.raises(ValueError, match="batch_tokens"):
        TranslationData("sample", batch_tokens=0)


def test_an_example_is_a_pair_of_sentences(sample):
    (batch,) = sample.train_dataset().stream(steps=1, epochs=1).as_numpy_iterator()
    shown = sample.show_example({name: one[0] for name, one in batch.items()})
    assert tuple(shown.values()) in sample.pairs and list(shown) == ["source", "target"]
    assert sample.decode(batch["target"][0][1:]) == sample.clean(shown["target"])
