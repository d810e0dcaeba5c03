"""Writing text, a character after the other, and translating with a beam search: how much of it in a second.

Text: the network of `peers` (a GRU), one text and `--texts` at once, characters drawn at temperature 1. The notebook's
loop is eager and `--length` / 10 long, as it is slow; compiled, its step is a `tf.function`; ours is `generate`, one
compiled loop. Translation: the network of `peers`, `--sentences` at once, `--words` words each, 5 beams; the notebook
takes one sentence at a time, greedily and eagerly. The networks are not trained: none ends early.
"""

from benchmarks import command, harness, report
from benchmarks.harness import Entry
from benchmarks.peers import shapes

DEFAULTS = {"length": 500, "texts": 64, "sentences": 64, "words": 11, "beams": 5, "size": "full"}
EAGER, BASE, OURS = "the notebook's eager loop", "PyTorch", "ours"
START, END, FORBIDDEN = 2, 3, (0, 2)


def text_entries(chosen, rows: int) -> dict[str, Entry]:
    """Who writes, by name."""
    common = {"rows": rows, "sizes": shapes.SIZES[chosen.size]["text"]}
    short = max(1, chosen.length // 10)

    def entry(function, length, needs=(), **more):
        return Entry(f"benchmarks.generation:{function}", {**common, "length": length, **more}, needs)

    return {
        EAGER: entry("notebook", short),
        "a tf.function per character": entry("notebook", chosen.length, compiled=True),
        OURS: entry("ours", 2 * chosen.length),
        BASE: entry("pytorch", chosen.length, ("torch",)),
    }


def notebook(gate, rows: int, sizes: dict, length: int, compiled: bool = False) -> None:
    """The notebook's loop in Python."""
    import tensorflow as tf

    from benchmarks.peers.tutorials import text as tutorial_text

    names = ("vocabulary", "embedding", "units", "layers", "cell")
    model = tutorial_text.Tutorial(**{name: sizes[name] for name in names}).model
    step = tf.function(tutorial_text.one_step) if compiled else tutorial_text.one_step
    gate()
    while True:
        tutorial_text.generate(model, tf.zeros((rows,), tf.int32), length, step).numpy()
        gate(rows * length)


def ours(gate, rows: int, sizes: dict, length: int) -> None:
    """The task's `generate`."""
    import lightkeras as lk
    from benchmarks.peers import ours as our_peers
    from lightkeras.runs import state as run_state

    data = our_peers.Data("text", sizes, 1)
    data.vocabulary = lk.text.CharacterVocabulary(map(chr, range(ord("0"), ord("0") + sizes["vocabulary"])))
    task = our_peers.make_task("text", sizes)
    run_state.build(task, data, data.train_dataset().element_spec)
    gate()
    while True:
        task.generate("0", length, num_samples=rows)
        gate(rows * length)


def pytorch(gate, rows: int, sizes: dict, length: int) -> None:
    """A loop in Python, without gradients."""
    import torch

    from benchmarks.peers import torch as torch_peers
    from benchmarks.peers import torch_search

    model = torch_peers.make_model("text", sizes, "")
    gate()
    while True:
        torch_search.generate(model, torch.zeros(rows, dtype=torch.int64), length)
        gate(rows * length)


# ---- translation


def beam_entries(chosen) -> dict[str, Entry]:
    """Who translates, by name."""
    common = {"sizes": shapes.SIZES[chosen.size]["translation"], "words": chosen.words}
    many = {**common, "sentences": chosen.sentences, "beams": chosen.beams}
    few = {**common, "sentences": max(1, chosen.sentences // 16)}
    return {
        "the notebook, eager, greedy": Entry("benchmarks.generation:notebook_translation", few),
        OURS: Entry("benchmarks.generation:our_beams", many),
        BASE: Entry("benchmarks.generation:pytorch_beams", many, ("torch",)),
    }


def _sources(sizes: dict, sentences: int):
    return shapes.arrays("translation", {**sizes, "batch": sentences}, 1)["source"]


def notebook_translation(gate, sizes: dict, words: int, sentences: int) -> None:
    """The notebook's `evaluate`, one sentence after the other."""
    from benchmarks.peers.tutorials import translation as tutorial_translation

    vocabulary, units, embedding = sizes["vocabulary"], sizes["units"], sizes["embedding"]
    # An end sign that no word is: the untrained network must not end early.
    model = tutorial_translation.build(vocabulary, vocabulary, 1, units, embedding, START, end=-1)
    gate()
    while True:
        for source in _sources(sizes, sentences):
            tutorial_translation.translate(model, source, words)
        gate(sentences)


def our_beams(gate, sizes: dict, words: int, sentences: int, beams: int) -> None:
    """`lightkeras.decoding.beam_search`, compiled."""
    from benchmarks.peers import ours as our_peers
    from lightkeras.runs import state as run_state

    data, task = our_peers.Data("translation", sizes, 1), our_peers.make_task("translation", sizes)
    run_state.build(task, data, data.train_dataset().element_spec)
    search, sources = compiled_search(task, words, beams, min_length=words), _sources(sizes, sentences)
    gate()
    while True:
        search(sources).ids.numpy()
        gate(sentences)


def compiled_search(task, words: int, beams: int, min_length: int):
    """A compiled function of sources (rows, slots): `lk.decoding.Hypotheses` of at most `words` words."""
    import tensorflow as tf

    import lightkeras as lk

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def search(source):
        start = (task.network.next, task.network.encode(source), tf.fill(tf.shape(source)[:1], START))
        limits = {"max_length": words, "min_length": min_length, "end_id": END, "forbidden": FORBIDDEN}
        return lk.decoding.beam_search(*start, **limits, beam_size=beams)

    return search


def pytorch_beams(gate, sizes: dict, words: int, sentences: int, beams: int) -> None:
    """The same search in PyTorch."""
    import torch

    from benchmarks.peers import torch as torch_peers
    from benchmarks.peers import torch_search

    model, sources = torch_peers.make_model("translation", sizes, ""), torch.as_tensor(_sources(sizes, sentences))
    gate()
    while True:
        torch_search.beam_search(model, sources, beams, words, END, FORBIDDEN, words)
        gate(sentences)


def measure(chosen) -> list[report.Table]:
    """Two tables of characters, one of sentences."""
    command.listed("size", chosen.size, shapes.SIZES)
    found = []
    for title, unit, taking_part in (
        ("One text", "characters/s", text_entries(chosen, 1)),
        (f"{chosen.texts} texts at once", "characters/s", text_entries(chosen, chosen.texts)),
        (f"Translating with {chosen.beams} beams", "sentences/s", beam_entries(chosen)),
    ):
        raced = harness.race(command.select(taking_part, chosen.only), chosen.rounds, title=title)
        found.append(report.make_speed_table(title, unit, raced, BASE))
    return found


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("generation", __doc__, DEFAULTS, arguments, measure, rounds=5)
