"""The translation task: its loss by hand, what it learns on a grammar of known alignment, and how it is used."""

import io

import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import quiet
from PIL import Image

import lightkeras as lk
from lightkeras.verifier.short_run import train
from tasks.translation import Translation, TranslationData, grammar

TINY = {"embedding_dim": 8, "units": 12, "encoder_units": 10, "dropout": 0.0, "warmup_steps": 5}


@pytest.fixture(scope="module")
def learned():
    """A small network that knows the grammar."""
    sizes = {"embedding_dim": 64, "units": 96, "encoder_units": 64, "dropout": 0.1}
    task = Translation(**sizes, label_smoothing=0.0, learning_rate=0.01, warmup_steps=60)
    data = TranslationData("sample")
    train(
        task, data, max_epochs=8, limit_val_batches=0, gradient_clip_val=1.0, log_every_n_steps=1000,
        steps_per_execution="auto",
    )  # fmt: skip
    return task, data


@pytest.fixture(scope="module")
def untrained():
    """A built task and its data."""
    task, data = Translation(**TINY, label_smoothing=0.1), TranslationData("sample", batch_size=8)
    train(task, data, max_steps=1, limit_val_batches=0)
    return task, data


def unseen(data) -> list[grammar.Sentence]:
    """The sentences of validation and test."""
    held_out = {*data.sources("validation"), *data.sources("test")}
    return [sentence for sentence in grammar.sentences() if lk.text.normalize_text(sentence.spanish) in held_out]


def batch_of(data, split="train") -> dict[str, tf.Tensor]:
    dataset = {"train": data.train_dataset, "validation": data.val_dataset}[split]()
    return next(iter(dataset.stream(seed=1)))


# ---- the loss


def test_the_loss_counts_every_token_of_the_target_and_its_end(untrained):
    task, data = untrained
    batch = {**batch_of(data), "weight": tf.constant([1.0] * 6 + [0.0] * 2)}
    logits = task.predict_step(batch).numpy().astype(np.float64)
    nats = right = tokens = 0
    for row, target in enumerate(batch["target"].numpy()[:6]):
        for step, token in enumerate(target[1:]):
            if token:
                row_of_step = logits[row, step]
                nats += np.log(np.exp(row_of_step).sum()) - row_of_step[token]
                right += row_of_step.argmax() == token
                tokens += 1
    sums = task.token_losses(batch, training=False)
    assert [float(part) for part in sums["loss"]] == pytest.approx([nats, tokens], rel=1e-5)
    assert float(sums["token_accuracy"][0]) == right
    assert lk.metrics.Perplexity(*map(float, sums["perplexity"])).result() == pytest.approx(
        np.exp(nats / tokens), rel=1e-5
    )


def test_labels_are_smoothed_in_training_alone(untrained):
    task, data = untrained
    batch = batch_of(data)
    smoothed, plain = (task.token_losses(batch, training=training) for training in (True, False))
    assert float(smoothed["loss"].total) != float(plain["loss"].total)
    assert float(smoothed["perplexity"].total) == pytest.approx(float(plain["perplexity"].total), rel=1e-6)


def test_more_padding_changes_nothing(untrained):
    task, data = untrained
    batch = batch_of(data)
    padded = {name: tf.pad(batch[name], [[0, 0], [0, 7]]) for name in ("source", "target")}
    for name, (total, weight) in task.token_losses(batch, training=False).items():
        again = task.token_losses({**batch, **padded}, training=False)[name]
        assert [float(part) for part in again] == pytest.approx([float(total), float(weight)], rel=1e-6)
    for beam_size in (1, 3):
        one, other = (
            task.searcher(rows, beam_size, length_penalty=1.0) for rows in (batch["source"], padded["source"])
        )
        width = one.ids.shape[2]
        np.testing.assert_array_equal(one.ids, other.ids[:, :, :width])
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
        np.testing.assert_allclose(one.attention, other.attention[:, :, :width, : one.attention.shape[3]], atol=1e-6)
        assert not np.any(other.attention[..., one.attention.shape[3] :])


# ---- translating


def test_it_translates_sentences_it_has_never_seen(learned):
    task, data = learned
    sentences = unseen(data)
    made = task.translate([sentence.spanish for sentence in sentences])
    right = np.mean([text == sentence.english for text, sentence in zip(made, sentences, strict=True)])
    assert len(sentences) > 100 and right > 0.95


def test_attention_lies_on_the_words_that_belong_together(learned):
    """Two thirds of the mass was seen; an even spread over these sources would put 0.14 there."""
    task, data = learned
    masses = []
    for sentence in unseen(data):
        (found,) = task.search([sentence.spanish], beam_size=1)[0]
        assert found.source_labels == [*lk.text.tokenize(lk.text.normalize_text(sentence.spanish)), "</s>"]
        np.testing.assert_allclose(found.attention.sum(axis=1), 1.0, atol=1e-5)
        if found.text == sentence.english:
            aligned = [[j for i, j in sentence.links if i == place] for place in range(len(found.labels) - 1)]
            masses += [found.attention[place, places].sum() for place, places in enumerate(aligned) if places]
    assert len(masses) > 500 and np.mean(masses) > 0.5


def test_a_score_is_that_of_teacher_forcing(learned):
    task, data = learned
    sentence = unseen(data)[0]
    for beam_size, n_best in ((1, 1), (5, 2)):
        found = task.search([sentence.spanish], beam_size, length_penalty=0.0, n_best=n_best)[0]
        assert len(found) == n_best and sorted((one.score for one in found), reverse=True) == [o.score for o in found]
        for one in found:
            ids = np.concatenate([[2], data.target_vocabulary.encode(one.labels[:-1]), [3]])[None].astype(np.int32)
            batch = {"source": data.encode(sentence.spanish)[None], "target": ids, "weight": tf.ones(1)}
            total = task.token_losses({n: tf.constant(v) for n, v in batch.items()}, training=False)["loss"][0]
            assert one.score == pytest.approx(-float(total), rel=1e-4, abs=1e-4)


def test_a_translation_does_not_depend_on_the_others(learned):
    task, data = learned
    texts = [sentence.spanish for sentence in unseen(data)[:40]]  # more than are translated at once
    together = task.translate(texts)
    assert together[:3] == [task.translate([text])[0] for text in texts[:3]]
    assert task.translate(texts[::-1]) == together[::-1]


@pytest.mark.parametrize(
    "text", ["Xyzzy plugh.", "שלום עולם", "??!", "la " * 1000], ids=["unknown", "right to left", "signs", "1,000 words"]
)
def test_any_text_is_translated(untrained, text):
    task, _ = untrained
    (made,) = task.translate([text], beam_size=1 if len(text) > 100 else 3)
    assert isinstance(made, str)


def test_an_empty_text_is_translated_to_an_empty_one(learned):
    task, data = learned
    text = unseen(data)[0].spanish
    assert task.translate(["", text, "  "])[::2] == ["", ""]


def test_bad_arguments_are_refused(untrained):
    task, _ = untrained
    with pytest.raises(TypeError, match=r"texts.*a list of texts"):
        task.translate("una frase")
    with pytest.raises(ValueError, match="beam_size"):
        task.translate(["una frase"], beam_size=0)
    with pytest.raises(ValueError, match="n_best"):
        task.search(["una frase"], beam_size=2, n_best=3)
    for name, value in {"units": 0, "dropout": 1.0, "cell": "rnn", "label_smoothing": -0.1, "warmup_steps": -1}.items():
        with pytest.raises(ValueError, match=name):
            Translation(**{name: value})


# ---- evaluation


def test_the_score_is_that_of_the_greedy_translations(learned):
    task, data = learned
    sources, references = data.sources("validation"), data.references("validation")
    made = task.translate(sources, beam_size=1)
    scores = task.score(data.val_dataset().stream(epochs=1))
    assert set(scores) == set(task.score_names)
    assert scores["bleu"].result() == pytest.approx(lk.metrics.BLEU.from_sentences(made, references).result())
    assert scores["chrf"].result() == pytest.approx(lk.metrics.ChrF.from_sentences(made, references).result())
    assert scores["bleu"].result() > 90
    shares = {name: scores[name].result() for name in task.score_names[2:]}
    assert shares["unknown"] == shares["empty"] == shares["repeating"] == 0
    assert 0 < shares["attention_entropy"] < 1 and 0.5 < shares["attention_coverage"] < 1


def test_chinese_targets_are_scored_by_characters(tmp_path):
    """By words, a sentence with one wrong character would score 0."""
    lines = [f"word{chr(97 + i)} ends.\t我喜欢第{chr(0x4E00 + 7 * i)}个故事的结尾。\n" for i in range(20)]
    (tmp_path / "pairs.txt").write_text("".join(lines), encoding="utf-8")
    data = TranslationData(str(tmp_path / "pairs.txt"), "first-to-second", min_count=1)
    with pytest.warns(UserWarning, match='No spaces stand between the words .*Use vocabulary="subword"'):
        data.setup("fit")
    assert data.bleu is lk.metrics.ChineseBLEU
    assert data.bleu.from_sentences(["我喜欢第五个故事的结尾。"], ["我喜欢第三个故事的结尾。"]).result() > 60


def test_scores_of_parts_add_up(untrained):
    task, data = untrained
    whole = task.score(data.val_dataset().stream(epochs=1))
    parts = [task.score([batch]) for batch in data.val_dataset().stream(epochs=1)]
    for name in ("bleu", "chrf"):
        np.testing.assert_array_equal(whole[name].sums, np.sum([part[name].sums for part in parts], axis=0))
    for name in task.score_names[2:]:
        np.testing.assert_allclose(whole[name], np.sum([part[name] for part in parts], axis=0), rtol=1e-6)


# ---- a run, and using it


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's trainer after its fit, the history, and the task."""
    root = tmp_path_factory.mktemp("runs")
    trainer, task = quiet(str(root), max_epochs=2, limit_train_batches=4, limit_val_batches=2), Translation(**TINY)
    return trainer, trainer.fit(task, TranslationData("sample", batch_size=16)).history, task


def test_a_run_logs_scores_and_writes_samples(run):
    trainer, history, _ = run
    assert len(history["val_bleu"]) == len(history["val_attention_entropy"]) == 2
    text = (trainer.run_dir / "samples" / "epoch_0002.txt").read_text(encoding="utf-8")
    assert text.count("reference") == text.count("translation") == 10


def test_the_report_has_good_and_bad_translations_lengths_and_attention(run):
    trainer, _, task = run
    page = (trainer.run_dir / "report.html").read_text(encoding="utf-8")
    for text in ("The best", "The worst", "By length", "words of the source", "Attention of the translation of: "):
        assert text in page
    translations, attention = task.report_sections()
    best, worst, lengths = translations.blocks
    assert [row[3] for row in best.rows] == sorted((row[3] for row in best.rows), reverse=True)
    assert best.rows[0][3] >= worst.rows[-1][3] >= worst.rows[0][3]
    assert len(task.scored) == 32 == sum(row[1] for row in lengths.rows)  # two batches
    assert task.scored[0].source in task.data.sources("validation")
    assert len(attention.blocks) == 3 and all(one.data.startswith(b"\x89PNG") for one in attention.blocks)


def test_a_trained_task_is_made_again_without_its_data(run, monkeypatch):
    monkeypatch.setattr(TranslationData, "_read", None)
    trainer, _, trained = run
    task = Translation.load_from_checkpoint(str(trainer.run_dir / "last"))
    for restored, weight in zip(task.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(restored, weight)
    texts = ["El perro es grande.", "¿Dónde está mi sombrero?"]
    for one, other in zip(task.search(texts), trained.search(texts), strict=True):
        assert one[0][:2] == other[0][:2] and one[0].text != ""
        np.testing.assert_array_equal(one[0].attention, other[0].attention)


def test_predict_takes_a_sentence_a_file_or_standard_input(learned, tmp_path, monkeypatch):
    task, data = learned
    texts = [sentence.spanish for sentence in unseen(data)[:3]]
    expected = task.translate(texts)
    assert list(task.predict_command(input=texts[0])) == expected[:1]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert list(task.predict_command(file=str(tmp_path / "texts.txt"))) == expected
    odd = f"{texts[0]}\r\n\x0c{texts[1]}\u2028\x85\r\n\n{texts[2]}\u2029\x1c"  # 4 lines
    (tmp_path / "odd.txt").write_text(odd, encoding="utf-8", newline="")
    assert list(task.predict_command(file=str(tmp_path / "odd.txt"))) == [*expected[:2], "", expected[2]]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(texts)))
    assert list(task.predict_command()) == expected
    (best,) = task.predict_command(input=texts[0], n_best=2)
    scores = [line.strip().split("  ", 1) for line in best.splitlines()]
    assert scores[0][1] == expected[0] and float(scores[0][0]) > float(scores[1][0])
    with pytest.raises(ValueError, match="file"):
        task.predict_command(input="a", file="b")
    with pytest.raises(ValueError, match="attention"):
        task.predict_command(file="b", attention="c.png")


def test_the_attention_is_drawn(learned, tmp_path):
    task, data = learned
    longest = max((sentence.spanish for sentence in unseen(data)), key=len)
    path = tmp_path / "attention.png"
    list(task.predict_command(input=longest, attention=str(path)))
    with Image.open(path) as picture:
        words = len(lk.text.tokenize(longest)) + 1
        assert picture.width > 40 * words and picture.height > 300
        assert len(picture.convert("L").getcolors(256)) > 10
    with pytest.raises(FileExistsError, match="attention"):
        task.predict_command(input=longest, attention=str(path))
