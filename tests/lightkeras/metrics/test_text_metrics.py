"""Metrics of texts: against sacreBLEU as it runs, against pinned values of pycocoevalcap 1.2, and by hand."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

import lightkeras as lk
from lightkeras.metrics import (
    BLEU,
    ROUGEL,
    CaptionBLEU,
    CharacterBLEU,
    ChineseBLEU,
    ChrF,
    CIDErD,
    DocumentFrequencies,
    WeightedMean,
    attention_coverage,
    attention_entropy,
    bleu_for,
    distinct_share,
    empty_share,
    is_repeating,
    lacks_spaces,
    repeating_share,
    tokenize_13a,
    tokenize_caption,
)
from lightkeras.metrics.captions import longest_common_subsequence

# ---- translations: sacreBLEU

SPANISH = (
    ("¿Me puedes dejar solo?", ["¿Me puedes dejar solo, por favor?", "¿Me puedes dejar sola, por favor?"]),
    ("Puede probar acusaciones.", ["¿Puede probar las acusaciones?", "¿Puede probar las imputaciones?"]),
    ("Tom tiene 3.500 dólares - o 3,5 mil", ["Tom tiene 3.500 dólares, o sea, 3,5 mil."]),
    ("", ["Vete."]),
    ("Vaya.", ["Ve.", "Vete.", "Vaya.", "Váyase."]),
)
ODD = (
    "&quot;Tom &amp; Mary&quot; &amp;lt; &lt;b&gt;", "1,000.50 50% $5.00 3-4 a-b 10-", "well-known -\nbroken\nline -\n",
    "<skipped>don't 'quoted' it's", "U.S. e.g. ... a.b,c", "naïve café ÀÉ İ ß 漢字 😀", "a\u00a0b\u2003c\t d\r\n",
    "()[]{}!?;:/\\@#^_`~|=+*<>", "", "   ", ".", "...,,,",
)  # fmt: skip
PIECES = st.sampled_from(
    [*"aab.,-&1 \n'", "the ", "THE ", "cat ", " sat", "&quot;", "<skipped>", "-\n", "É", "3.5", "…"]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.sampled_from(ODD), st.text(max_size=8))
CORPORA = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=4)


def sacre(kind, corpus, **options) -> tuple[float, str]:
    """sacreBLEU's figure and signature; it takes the references as columns, None where a sentence has fewer."""
    hypotheses, references = zip(*corpus, strict=True)
    columns = [[r[i] if i < len(r) else None for r in references] for i in range(max(map(len, references)))]
    metric = kind(**options)
    return metric.corpus_score(list(hypotheses), columns).score, str(metric.get_signature())


IMPLEMENTATION = f"|impl:lightkeras.{lk.__version__}"  # in the place of sacreBLEU's version


def ours(kind, corpus, **options):
    return kind.from_sentences(*zip(*corpus, strict=True), **options)


@pytest.mark.parametrize("kind, reference", [(BLEU, sacrebleu.BLEU), (ChrF, sacrebleu.CHRF)])
@pytest.mark.parametrize("lowercase", [False, True])
@settings(max_examples=150, deadline=None)
@given(corpus=CORPORA)
def test_any_text_has_sacrebleus_figure_and_settings(kind, reference, lowercase, corpus):
    score, signature = sacre(reference, corpus, lowercase=lowercase)
    metric = ours(kind, corpus, lowercase=lowercase)
    assert metric.result() == pytest.approx(score, abs=1e-9)
    assert metric.signature == signature.partition("|version:")[0] + IMPLEMENTATION


EASTERN = st.sampled_from([*"我喜欢猫。，！「」ａ1…“ －☆㎏ のカ", "ไทย ", "cat ", "3.5", "\U00020001", " "])
EASTERN_TEXTS = st.one_of(st.lists(EASTERN, max_size=12).map("".join), TEXTS)


@pytest.mark.parametrize("kind, tokenize", [(ChineseBLEU, "zh"), (CharacterBLEU, "char")])
@settings(max_examples=150, deadline=None)
@given(
    corpus=st.lists(st.tuples(EASTERN_TEXTS, st.lists(EASTERN_TEXTS, min_size=1, max_size=2)), min_size=1, max_size=4)
)
def test_texts_without_spaces_have_sacrebleus_figure_and_settings(kind, tokenize, corpus):
    score, signature = sacre(sacrebleu.BLEU, corpus, tokenize=tokenize)
    metric = ours(kind, corpus)
    assert metric.result() == pytest.approx(score, abs=1e-9)
    assert metric.signature == signature.partition("|version:")[0] + IMPLEMENTATION


@pytest.mark.parametrize(
    ("text", "kind", "without"),
    [
        ("我喜欢猫，也喜欢狗。", ChineseBLEU, True),
        ("我 喜欢 猫 ，也 喜欢 狗 。", ChineseBLEU, False),
        ("私は猫が好きです。", CharacterBLEU, True),
        ("ฉันชอบแมวและสุนัข", CharacterBLEU, True),
        ("ខ្ញុំចូលចិត្តឆ្មា", CharacterBLEU, True),
        ("나는 고양이를 좋아한다.", BLEU, False),
        ("I like the word 猫, which is a cat.", BLEU, False),
        ("Donaudampfschifffahrtsgesellschaft", BLEU, False),
        ("", BLEU, False),
    ],
)
def test_the_bleu_for_a_language(text, kind, without):
    assert bleu_for([text]) is kind and lacks_spaces([text]) is without


def test_translations_have_sacrebleus_figure():
    """Pinned from sacreBLEU 2.6.0, and the same as that which runs here."""
    bleu, chrf = ours(BLEU, SPANISH), ours(ChrF, SPANISH)
    assert bleu.result() == pytest.approx(27.99140302404804, abs=1e-9)
    assert chrf.result() == pytest.approx(68.57298198525662, abs=1e-9)
    assert sacre(sacrebleu.BLEU, SPANISH)[0] == pytest.approx(bleu.result(), abs=1e-9)
    assert sacre(sacrebleu.CHRF, SPANISH)[0] == pytest.approx(chrf.result(), abs=1e-9)
    assert bleu.signature == "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp" + IMPLEMENTATION


@pytest.mark.parametrize("text", ODD)
def test_tokens_are_sacrebleus(text):
    assert tokenize_13a(text) == sacrebleu.BLEU().tokenizer(text.rstrip()).split()


def test_bleu_by_hand():
    """Papineni's clipping: of seven "the" two count; then the smoothing, 1/2 and 1/4 and 1/8 of a match."""
    bleu = BLEU.from_sentences(["the the the the the the the"], ["the cat is on the mat"])
    assert bleu.sums.tolist() == [1, 1, 1, 0, 7, 6, 2, 0, 0, 0, 7, 6, 5, 4]
    assert bleu.result() == pytest.approx(100 * (2 / 7 / 2 / 6 / 4 / 5 / 8 / 4) ** 0.25)
    assert bleu.signature.startswith("nrefs:1|case:mixed|")


def test_the_nearest_reference_gives_the_length_and_of_two_the_shorter():
    bleu = BLEU.from_sentences(["a b c d"], [["a b c d e", "a b c", "a b c d e f g"]])
    assert bleu.sums[4:6].tolist() == [4, 3]


def test_chrf_by_hand():
    """Of "abc" and "abd": 2 of 3 characters, 1 of 2 pairs, 0 of 1 triples; precision and recall are 7/18."""
    assert ChrF.from_sentences(["ab c"], ["a bd"]).result() == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)


def test_equal_texts_have_the_best_figure():
    texts = ["Ella canta muy bien.", "No, no lo sé."]
    assert BLEU.from_sentences(texts, texts).result() == pytest.approx(100)
    assert ChrF.from_sentences(texts, [[text] for text in texts]).result() == pytest.approx(100)


def test_lower_case_is_of_both_sides():
    upper, lower = ["ELLA CANTA muy bien"], ["ella canta MUY BIEN"]
    for kind in (BLEU, ChrF):
        assert kind.from_sentences(upper, lower, lowercase=True).result() == pytest.approx(100)
        assert kind.from_sentences(upper, lower).result() < 50


# ---- captions: pycocoevalcap

CAPTIONS = (  # of Flickr8k, with an invented hypothesis each
    ("A hiker is standing on a snow covered mountain.", [
        "A hiker standing high on a bluff overlooking the mountains below .",
        "a person on ski 's looks from hill over snow covered landscape",
        "A skier is overlooking a snow-covered mountain .",
        "A skier is overlooking the beautiful white snow covered landscape .",
        "A skier pauses on a mountaintop .",
    ]),
    ("A black and white dog catches a toy in midair.", [
        "A dog and a tennis ball .",
        "A dog is jumping to catch a object thrown at it ,",
        "A dog leaps while chasing a tennis ball through a grassy field .",
    ]),
    ("Three people ride ATV's through a field", [
        "Three people drive ATVs .",
        "Three people on ATVs in a brown field turn their heads to look at the camera .",
        "Three people on ATV 's outside .",
        "three people on four wheel ATV 's in a field .",
        "Three people ride their four wheelers through the field .",
    ]),
    ("a man is is climbing climbing", [
        "A man climbing a rock wall",
        "A man climbing the side of a cliff .",
    ]),
    ("A bird eats seeds out of a person's hand while someone watches it very closely from behind", [
        "A black and white bird eating seeds out of someone 's hand",
    ]),
)  # fmt: skip


def tokenized() -> tuple[list[str], list[list[str]]]:
    hypotheses, references = zip(*CAPTIONS, strict=True)
    return list(map(tokenize_caption, hypotheses)), [list(map(tokenize_caption, refs)) for refs in references]


def word_salad() -> tuple[list[str], list[list[str]]]:
    """60 images of up to 11 words of six; some hypotheses and references are empty."""
    numbers = random.Random(7)

    def below(n):
        return int(numbers.random() * n)

    def text():
        return " ".join("abcdef"[below(6)] for _ in range(below(12)))

    return [text() for _ in range(60)], [[text() for _ in range(1 + below(4))] for _ in range(60)]


PINNED = {
    "tokenized": {
        "bleu": [0.6274509803798539, 0.38735336030522155, 0.19415724378024765, 2.1234379435177726e-05],
        "rouge": 0.5280237888090983,
        "cider": 1.1585690688471817,
        "ciders": [0.9363330893440008, 0.4192107535481895, 1.826452126830359, 1.396055333345283, 1.214794041168076],
    },
    "word_salad": {
        "bleu": [0.6470588235274085, 0.41693728408174424, 0.2283474696353244, 0.12825785825683794],
        "rouge": 0.45799504567960875,
        "cider": 0.9831701893215415,
    },
}


@pytest.mark.parametrize("corpus", [tokenized, word_salad])
def test_captions_have_the_figures_of_the_coco_evaluation(corpus):
    hypotheses, references = corpus()
    expected = PINNED[corpus.__name__]
    bleu = CaptionBLEU.from_sentences(hypotheses, references)
    assert [bleu.up_to(n).result() for n in (1, 2, 3, 4)] == pytest.approx(expected["bleu"], abs=1e-12)
    assert bleu.result() == bleu.up_to(4).result()
    assert ROUGEL.from_sentences(hypotheses, references).result() == pytest.approx(expected["rouge"], abs=2e-10)
    frequencies = DocumentFrequencies(references)
    assert CIDErD.from_sentences(hypotheses, references, frequencies).result() == pytest.approx(
        expected["cider"], abs=2e-10
    )


def test_short_captions_are_penalized():
    """4 of 6 words: exp(1 - 6/4); of the two references the nearer one, of 6, counts."""
    bleu = CaptionBLEU.from_sentences(["a b c d"], [["a b c d e f", "a b c d e f g"]])
    assert [bleu.up_to(n).result() for n in (1, 4)] == pytest.approx([math.exp(-0.5)] * 2, abs=1e-8)


def test_the_document_frequencies_are_those_of_the_whole_corpus():
    hypotheses, references = tokenized()
    frequencies = DocumentFrequencies(references)
    assert frequencies.images == 5
    assert frequencies.weight(("on",)) == pytest.approx(math.log(5 / 2))
    assert frequencies.weight(("snow", "covered")) == pytest.approx(math.log(5))  # twice in one image
    assert frequencies.weight(("unknown",)) == pytest.approx(math.log(5))
    by_image = [
        CIDErD.from_sentences([h], [r], frequencies).result() for h, r in zip(hypotheses, references, strict=True)
    ]
    assert by_image == pytest.approx(PINNED["tokenized"]["ciders"], abs=2e-10)
    assert CIDErD.from_sentences(hypotheses[:1], references[:1], DocumentFrequencies(references[:1])).result() == 0


def test_rouge_l_by_hand():
    """The best precision is of one reference, 3 of 4, the best recall of the other, 2 of 2."""
    score = ROUGEL.from_sentences(["a b c d"], [["a x b y c z", "b d"]]).result()
    assert score == pytest.approx((1 + 1.44) * 0.75 / (1 + 1.44 * 0.75), abs=1e-9)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_longest_common_subsequence_is_that_of_the_table(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    assert longest_common_subsequence(list(first), list(second)) == table[-1, -1]


@pytest.mark.parametrize("text, tokens", [
    ("Don't you think it's the cats' toys?", "do n't you think it 's the cats toys"),
    ("I'm, you're; he'll they've she'd", "i 'm you 're he 'll they 've she 'd"),
    ('A "STOP" sign -- at St. Mary\'s Ave. corner... yes!', "a stop sign at st. mary 's ave. corner yes"),
    ("'quoted text' here", "quoted text here"),
    ("U.S. Air Force jet. The U.S. flag", "u.s. air force jet the u.s. flag"),
    ("$5.00 bill, 1,000 people 50% off #1 & co.", "$ 5.00 bill 1,000 people 50 % off # 1 & co."),
    ("a (small) dog [here]", "a -lrb- small -rrb- dog -lsb- here -rsb-"),
    ("a man's t-shirt, 3/4 length", "a man 's t-shirt 3/4 length"),
    ("12:30 p.m. at 5 a.m.", "12:30 p.m. at 5 a.m."),
    ("a--b - c -d e-", "a b c d e"),
    ("50's cars in the '60s", "50 's cars in the '60s"),
    ("café naïve “curly” ‘single’ it’s don’t – — …", "café naïve curly single it 's do n't"),
    ("A man cannot sit on 23rd Ave.", "a man can not sit on 23rd ave."),
    ("A room with a screen T.V. ", "a room with a screen t.v."),
    ("A street with a sign that reads K.", "a street with a sign that reads k"),
    ("at 5 p.m.. on W. Main St... and", "at 5 p.m. on w. main st. and"),
    ("Downtown with a bicyclist. and a dog..", "downtown with a bicyclist and a dog"),
    ('"The end."', "the end"), ("...", ""), ("", ""), ("  spaces   in  ", "spaces in"),
    (".5 -5 mother-in-law's", ".5 -5 mother-in-law 's"),
])  # fmt: skip
def test_caption_tokens_are_those_of_the_coco_evaluation(text, tokens):
    """Pinned from pycocoevalcap's PTBTokenizer."""
    assert tokenize_caption(text) == tokens


# ---- merging


def cut(items, numbers: random.Random) -> list[list]:
    """In random order, in parts of random sizes."""
    items = list(items)
    numbers.shuffle(items)
    parts = []
    while items:
        size = 1 + numbers.randrange(len(items))
        parts, items = [*parts, items[:size]], items[size:]
    return parts


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", [BLEU, ChrF, CaptionBLEU, ROUGEL, CIDErD])
def test_any_cut_gives_the_same_bits(kind, seed):
    hypotheses, references = word_salad()
    options = {"frequencies": DocumentFrequencies(references)} if kind is CIDErD else {}
    whole = kind.from_sentences(hypotheses, references, **options)
    total = kind.zero()
    for part in cut(zip(hypotheses, references, strict=True), random.Random(seed)):
        total = total + kind.from_sentences(*zip(*part, strict=True), **options)
    assert total.sums.tobytes() == whole.sums.tobytes() and total.sums.dtype == np.float64
    assert type(whole)(total.sums).result() == whole.result()
    assert math.isnan(kind.zero().result())


def test_different_metrics_are_not_added():
    bleu, chrf = ours(BLEU, SPANISH), ours(ChrF, SPANISH)
    with pytest.raises(TypeError, match="unsupported operand"):
        bleu + chrf
    with pytest.raises(ValueError, match=r"Expected `lowercased sentences` to be none or all 10\. Received.*=5\.0"):
        bleu + ours(BLEU, SPANISH, lowercase=True)
    captions = CaptionBLEU.from_sentences(*tokenized())
    with pytest.raises(ValueError, match=r"Expected `other` to be of 11 sums\. Received: other=7"):
        captions + captions.up_to(2)
    with pytest.raises(ValueError, match=r"Expected `sums` to be a vector of 14 sums\. Received: sums=\(3,\)"):
        BLEU([1, 2, 3])
    with pytest.raises(ValueError, match="Expected `order` to be at most 4"):
        captions.up_to(5)
    assert (BLEU.zero() + ours(BLEU, SPANISH, lowercase=True)).signature.startswith("nrefs:var|case:lc|")


@pytest.mark.parametrize("hypotheses, references, message", [
    (["a", "b"], [["a"]], "`references` to be 2 lists of references, one for each hypothesis. Received: references=1"),
    ([], [], "`hypotheses` to be at least one sentence"),
    ("a", ["a"], "`hypotheses` to be a list of str"),
    (["a"], "a", "`references` to be a list of lists of str"),
    (["a", b"b"], ["a", "b"], r"`hypotheses\[1\]` to be a str. Received: hypotheses\[1\]=b'b'"),
    (["a"], [[]], r"`references\[0\]` to be at least one reference"),
    (["a"], [b"a"], r"`references\[0\]` to be strings. Received: references\[0\]=b'a'"),
    (["a"], [["a", None]], r"`references\[0\]` to be strings. Received: references\[0\]=None"),
])  # fmt: skip
def test_bad_input_is_rejected(hypotheses, references, message):
    frequencies = DocumentFrequencies(["a"])
    for make in (
        BLEU.from_sentences,
        ChrF.from_sentences,
        CaptionBLEU.from_sentences,
        ROUGEL.from_sentences,
        lambda h, r: CIDErD.from_sentences(h, r, frequencies),
    ):
        with pytest.raises(ValueError, match=f"Expected {message}"):
            make(hypotheses, references)


def test_empty_document_frequencies_are_rejected():
    with pytest.raises(ValueError, match="`references` to be those of at least one sentence"):
        DocumentFrequencies([])
    with pytest.raises(ValueError, match="`frequencies` to be DocumentFrequencies of all references"):
        CIDErD.from_sentences(["a"], ["a"], {})


# ---- diagnostics


def test_shares_of_bad_outputs():
    texts = ["", " \n", "a dog", "a dog", "no no no no", "x y z x y z x y z x y", "on and on and on and on and on"]
    assert empty_share(texts) == pytest.approx(2 / 7)
    assert distinct_share(texts) == pytest.approx(6 / 7)
    assert repeating_share(texts) == pytest.approx(2 / 7)
    assert repeating_share(texts, times=3) == pytest.approx(3 / 7)
    for share in (empty_share, distinct_share, repeating_share):
        with pytest.raises(ValueError, match="Expected `texts` to be at least one text"):
            share([])
        with pytest.raises(ValueError, match=r"Expected `texts\[0\]` to be a str"):
            share([b"a"])
        with pytest.raises(ValueError, match="Expected `texts` to be a list of str"):
            share("a dog")


@pytest.mark.parametrize("text, repeats", [
    ("no no no", False), ("no no no no", True), ("a no no no no b", True), ("a b a b a b a", False),
    ("a b a b a b a b", True), ("c a b a b a b a b", True), ("a a b a a b a a b a a", False),
    ("a a b a a b a a b a a b", True), ("no no x no no", False), ("", False),
])  # fmt: skip
def test_four_times_in_a_row_is_repeating(text, repeats):
    assert is_repeating(text) is repeats


def test_attention_entropy_and_coverage_by_hand():
    """Two sentences: of 2 steps and 3 slots, and of 1 step and 2 slots; padding holds rubbish."""
    attention = np.array([[[0.5, 0.5, 0], [1, 0, 0]], [[0.25, 0.75, 9], [7, 7, 7]]])
    target_mask, source_mask = [[1, 1], [1, 0]], [[True, True, True], [True, True, False]]
    entropy = attention_entropy(attention, target_mask, source_mask)
    assert isinstance(entropy, WeightedMean) and entropy.weight == 3
    assert entropy.total == pytest.approx(math.log(2) + 0 + 0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert entropy.result() == pytest.approx(entropy.total / 3)
    assert attention_coverage(attention, target_mask, source_mask) == pytest.approx((1 + 0.5 + 0 + 0.25 + 0.75, 5))


def test_even_attention_has_the_logarithm_of_the_slots():
    even = np.full((2, 5, 8), 1 / 8, np.float32)
    assert attention_entropy(even, np.ones((2, 5))).result() == pytest.approx(math.log(8))
    assert attention_coverage(even, np.ones((2, 5))).result() == pytest.approx(5 / 8)


@pytest.mark.parametrize("attention, target_mask, source_mask, message", [
    (np.ones((2, 3)), np.ones((2, 3)), None, r"`attention` to be of the shape \(batch, steps, slots\)"),
    (np.full((1, 2, 2), 0.5), np.ones((2, 1)), None, r"`target_mask` to be of the shape \(1, 2\). Received.*\(2, 1\)"),
    (np.full((1, 2, 2), 0.5), np.ones((1, 2)), np.ones((1, 3)), r"`source_mask` to be of the shape \(1, 2\)"),
    (np.full((1, 2, 2), 0.5), [[1, 2]], None, "`target_mask` to be of 0 and 1"),
    (np.full((1, 2, 2), 3.0), np.ones((1, 2)), None, "`attention` to be weights that sum to 1 over the real slots"),
    (np.full((1, 2, 2), 0.5), np.ones((1, 2)), [[1, 0]], "`attention` to be weights that sum to 1"),
    (np.array([[[1.5, -0.5]]]), [[1]], None, "`attention` to be at least 0"),
    (np.array([[[np.nan, 1]]]), [[1]], None, "`attention` to be at least 0"),
])  # fmt: skip
def test_bad_attention_is_rejected(attention, target_mask, source_mask, message):
    for figure in (attention_entropy, attention_coverage):
        with pytest.raises(ValueError, match=f"Expected {message}"):
            figure(attention, target_mask, source_mask)


# ---- the package


def test_text_metrics_need_no_tensorflow():
    code = (
        "import sys, lightkeras as lk\nlk.metrics.WeightedMean; print('nltk' in sys.modules)\n"
        "print(lk.metrics.BLEU.from_sentences(['a b c d'], ['a b c d']).result(), lk.metrics.ChrF, lk.metrics.CIDErD)\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "False" and lines[1].startswith("100.0") and lines[2] == "[]"


def test_all_names_are_there():
    assert all(getattr(lk.metrics, name).__name__ == name for name in lk.metrics.__all__)
    assert set(lk.metrics.__all__) < set(dir(lk.metrics))
    with pytest.raises(AttributeError, match="has no attribute 'BLUE'"):
        lk.metrics.BLUE  # noqa: B018
