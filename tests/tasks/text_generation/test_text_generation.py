"""Text generation: the data's windows, the loss by hand, the decode loop against the forward pass, the evaluation."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Recorder, quiet, weights
from PIL import Image

import lightkeras as lk
from tasks.text_generation import TextData, TextGeneration
from tasks.text_generation import data as data_module
from tasks.text_generation import evaluate as evaluation
from tasks.text_generation import figures as drawing

TINY = {"embedding_dim": 8, "units": 16, "dropout": 0.1, "embedding_dropout": 0.1, "warmup_steps": 5}
SHAKESPEARE = os.path.join(os.environ.get("LIGHTKERAS_DATA", ""), "shakespeare", "shakespeare.txt")
real = pytest.mark.skipif(not os.path.exists(SHAKESPEARE), reason="LIGHTKERAS_DATA has no shakespeare.txt")


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """260 characters, of which any ten in a row are told from any other ten."""
    path = tmp_path_factory.mktemp("text") / "letters.txt"
    path.write_text("".join(f"{chr(97 + i)}{chr(97 + j)}" for i in range(13) for j in range(10)), encoding="utf-8")
    return str(path)


def data_of(path, **arguments):
    data = TextData(path, **{"seq_len": 10, "batch_size": 4, **arguments})
    data.setup("fit")
    return data


@pytest.fixture(scope="module", params=["gru", "lstm"])
def trained(request, letters, tmp_path_factory):
    """(trainer, task, data) after a few updates; a fifth of the text is for testing."""
    task = TextGeneration(**TINY, cell=request.param, num_layers=2)
    data = TextData(letters, seq_len=10, batch_size=4, test_fraction=0.2)
    trainer = quiet(str(tmp_path_factory.mktemp("runs")), max_epochs=3)
    trainer.fit(task, data)
    return trainer, task, data


def test_the_report_has_texts_at_several_temperatures(trained):
    trainer, task, _ = trained
    (section,) = task.report_sections()
    assert [block.title for block in section.blocks] == [f"Temperature {t}" for t in (0.5, 0.8, 1.0)]
    assert section.blocks[1].text == task.generate("a", 300, 0.8)[0] and task.first_prompt == "a"
    assert "Temperature 0.8" in (trainer.run_dir / "report.html").read_text(encoding="utf-8")


one_cell = pytest.mark.parametrize("trained", ["gru"], indirect=True)


# ---- data


def test_targets_are_the_next_characters(letters):
    data = data_of(letters)
    text = lk.text.read_text(letters)
    for batch in data.train_dataset().stream(seed=3, epochs=2):
        for inputs, targets in zip(batch["inputs"].numpy(), batch["targets"].numpy(), strict=True):
            window = data.vocabulary.decode(inputs)
            assert window in text[:234] and inputs[1:].tolist() == targets[:-1].tolist()
            assert text[text.index(window) + 1 :].startswith(data.vocabulary.decode(targets))


def test_splits_are_pieces_of_the_text_in_order(letters):
    data = data_of(letters, val_fraction=0.1, test_fraction=0.2)
    text = lk.text.read_text(letters)
    pieces = {"train": text[:182], "val": text[182:208], "test": text[208:]}
    for name, piece in pieces.items():
        for batch in getattr(data, f"{name}_dataset")().stream(epochs=1):
            for window in batch["inputs"].numpy():
                assert data.vocabulary.decode(window) in piece
    assert data_of(letters).test_dataset() is None


def test_validation_windows_lie_end_to_end(letters):
    data = data_of(letters, val_fraction=0.3)
    rows = [
        row
        for batch in data.val_dataset().stream(epochs=1)
        for row, weight in zip(batch["inputs"].numpy(), batch["weight"].numpy(), strict=True)
        if weight
    ]
    assert data.vocabulary.decode(np.concatenate(rows)) == lk.text.read_text(letters)[182:252]


def test_every_epoch_cuts_the_text_elsewhere(letters):
    data = data_of(letters)

    def starts(epoch):
        batches = data.train_dataset().stream(epoch=epoch, epochs=epoch + 1)
        windows = {data.vocabulary.decode(row) for batch in batches for row in batch["inputs"].numpy()}
        return {lk.text.read_text(letters).index(window) for window in windows}

    offsets = set()
    for epoch in range(6):
        found = starts(epoch)
        assert len({start % 10 for start in found}) == 1 and len(found) == 22
        offsets |= {start % 10 for start in found}
    assert len(offsets) > 2


def test_a_text_that_is_read_from_the_disk_trains_to_the_same_bits(letters, tmp_path, monkeypatch):
    """In two files, found by a glob; and evaluated."""
    text = lk.text.read_text(letters)
    for name, part in (("1.txt", text[:99]), ("2.txt", text[99:])):
        (tmp_path / name).write_text(part, encoding="utf-8")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    found = []
    for source, limit in ((letters, 1000), (f"{tmp_path}/*.txt", 10)):
        monkeypatch.setattr(data_module, "IN_MEMORY", limit)
        task, data = TextGeneration(**TINY), TextData(source, seq_len=10, batch_size=4, test_fraction=0.2)
        trainer = quiet(max_epochs=2, devices=1)
        history = trainer.fit(task, data).history
        assert data.splits["train"].in_memory == (source == letters)
        found.append((history, weights(task), evaluation.evaluate(task)))
    np.testing.assert_equal(found[1], found[0])
    assert len(list((tmp_path / "home" / "datasets" / "texts").iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", {}, "empty"),
        (b"too short", {}, r"Expected the train split to have 20 characters or more .* Received: 8 characters"),
        (b"ab" * 60, {"seq_len": 20}, r"validation split to have 21 characters or more for windows of seq_len=20"),
        (b"one\ntwo \xff three", {}, r"line 2, column 5 \(byte 8\)"),
    ],
)
def test_bad_texts_are_rejected(tmp_path, content, arguments, message):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data_of(str(tmp_path / "text.txt"), **arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"seq_len": 0}, {"batch_size": 0}, {"val_fraction": 0.0}, {"val_fraction": 0.6, "test_fraction": 0.4}],
)
def test_bad_arguments_are_rejected(arguments):
    with pytest.raises(ValueError, match="Expected `"):
        TextData("sample", **arguments)


def test_a_missing_file_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="missing"):
        TextData(str(tmp_path / "missing.txt")).prepare_data()


def test_the_sample_needs_no_file():
    data = TextData("sample")
    data.prepare_data()
    data.setup("fit")
    assert len(data.train_dataset()) > 50 and len(data.vocabulary) > 60


@real
def test_shakespeare_is_split_as_nanogpt_splits_it():
    data = TextData()
    data.prepare_data()
    data.setup("fit")
    assert len(data.vocabulary) == 65
    assert [len(split) for split in data.splits.values()] == [1_003_854, 111_540, 0]


# ---- loss


@one_cell
def test_the_loss_of_a_network_that_knows_nothing(trained):
    trainer, _, data = trained
    task = TextGeneration.load_from_checkpoint(trainer.run_dir)
    for variable in task.network.head.variables:
        variable.assign(tf.zeros_like(variable))
    results = quiet().validate(task, data)
    size = len(data.vocabulary)
    assert results["val_loss"] == pytest.approx(math.log(size), rel=1e-6)
    assert results["val_perplexity"] == pytest.approx(size, rel=1e-6)
    assert results["val_bits_per_character"] == pytest.approx(math.log2(size), rel=1e-6)


def test_the_loss_by_hand(trained):
    _, task, data = trained
    batch = next(iter(data.val_dataset().stream()))
    logits = task.network(batch["inputs"])[0].numpy().astype(np.float64)  # (batch, time, vocabulary)
    chosen = np.take_along_axis(logits, batch["targets"].numpy()[..., None], -1)[..., 0]
    nats = np.log(np.exp(logits).sum(-1)) - chosen  # (batch, time)
    weight = batch["weight"].numpy()
    total, characters = task.character_losses(batch, training=False)["loss"]
    assert float(total) == pytest.approx((nats * weight[:, None]).sum(), rel=1e-5)
    assert float(characters) == weight.sum() * 10


# ---- generating text


def test_steps_equal_the_forward_pass(trained):
    _, task, data = trained
    ids = next(iter(data.val_dataset().stream()))["inputs"]  # (batch, time)
    whole, last = task.network(ids)
    next_function, states = task.network.make_next_function(), task.network.initial_states(ids.shape[0])
    for t in range(ids.shape[1]):
        logits, states = next_function(ids[:, t], states)
        np.testing.assert_allclose(logits, whole[:, t], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(tf.nest.flatten(states), tf.nest.flatten(last), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_most_probable_text_is_the_argmax_of_the_forward_pass(trained):
    _, task, _ = trained
    (text,) = task.generate("abc", length=20, temperature=0)
    logits = task.network(task.vocabulary.encode(text)[None])[0].numpy()
    assert text[3:] == task.vocabulary.decode(logits[0].argmax(-1)[2:-1])


def test_one_seed_one_text(trained):
    _, task, _ = trained
    first = task.generate("ab", length=40, seed=7, num_samples=3)
    assert first == task.generate("ab", length=40, seed=7, num_samples=3)
    assert [text[:12] for text in first] == task.generate("ab", length=10, seed=7, num_samples=3)
    assert first[:1] == task.generate("ab", length=40, seed=7)
    assert len({*first, *task.generate("ab", length=40, seed=8)}) == 4
    assert all(text.startswith("ab") and len(text) == 42 for text in first)


def test_a_text_that_grows_is_the_whole_one(trained):
    task = trained[1]
    for options in ({"temperature": 0.7, "seed": 2**33}, {"top_k": 2, "top_p": 0.9}):
        *parts, whole = task.generate_parts("abc", 60, **options)
        assert [whole] == task.generate("abc", 60, **options)
        assert parts == [whole[:27], whole[:51]]
    with pytest.raises(ValueError, match="at least one character"):
        next(task.generate_parts(""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a☃b"}, "☃"),
        ({"prompt": ""}, "at least one character"),
        ({"length": 0}, "`length`"),
        ({"temperature": -1.0}, "`temperature`"),
        ({"top_k": 1000}, "`top_k`"),
        ({"top_p": 0.0}, "`top_p`"),
        ({"num_samples": 0}, "`num_samples`"),
    ],
)
def test_bad_requests_are_rejected(trained, arguments, message):
    with pytest.raises(ValueError, match=message):
        trained[1].generate(**{"prompt": "ab", "length": 5, **arguments})


def test_a_run_is_enough_to_write(trained):
    trainer, task, _ = trained
    again = TextGeneration.load_from_checkpoint(trainer.run_dir)
    assert again.hparams == task.hparams
    best = sorted(os.listdir(trainer.run_dir / "samples"))
    assert best == ["epoch_0001.txt", "epoch_0002.txt", "epoch_0003.txt"]
    last = TextGeneration.load_from_checkpoint(trainer.run_dir / "last")
    assert last.generate("ab", 30) == task.generate("ab", 30)


def test_a_checkpoint_of_another_vocabulary_is_rejected(trained, tmp_path):
    trainer, task, _ = trained
    (tmp_path / "other.txt").write_text("0123456789" * 30, encoding="utf-8")
    data = TextData(str(tmp_path / "other.txt"), seq_len=10, batch_size=4)
    with pytest.raises(lk.CheckpointError, match="vocabulary"):
        quiet().validate(TextGeneration(**task.hparams), data, ckpt_path=str(trainer.run_dir))


# ---- evaluation and figures


@one_cell
def test_a_run_is_evaluated_beside_two_baselines(trained, letters, tmp_path, capsys):
    trainer, _, data = trained
    out = tmp_path / "figures.json"
    evaluation.main(["--ckpt_path", str(trainer.run_dir), "--out", str(out)])
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert evaluation.table(figures) in capsys.readouterr().out
    assert figures["split"] == "test" and figures["characters"] == 50  # five windows of the last 52 characters
    results = trainer.test(TextGeneration.load_from_checkpoint(trainer.run_dir), data)
    expected = {"nats": "test_loss", "bits": "test_bits_per_character", "perplexity": "test_perplexity"}
    assert figures["model"] == {name: pytest.approx(results[metric]) for name, metric in expected.items()}
    text, size = lk.text.read_text(letters), len(data.vocabulary)
    train, predicted = text[:182], text[209:259]
    shares = [(train.count(character) + 1) / (len(train) + size) for character in predicted]
    assert figures["frequencies"]["nats"] == pytest.approx(-np.mean(np.log(shares)))
    assert figures["uniform"] == pytest.approx({"nats": math.log(size), "bits": math.log2(size), "perplexity": size})


@one_cell
def test_a_missing_test_split_is_named(trained, letters):
    _, task, _ = trained
    assert evaluation.evaluate(task, "validation")["characters"] == 20
    with pytest.raises(ValueError, match='Expected `split` to be "validation" for data without a `test_fraction`'):
        data_of(letters).held_out("test")
    with pytest.raises(ValueError, match="Expected `split` to be one of 'test', 'validation'"):
        evaluation.evaluate(task, "train")


@one_cell
def test_the_curve_has_the_losses_of_the_run(trained, tmp_path, capsys):
    trainer, task, data = trained
    losses, out = drawing.read_losses(trainer.run_dir), tmp_path / "curve.png"
    assert [step for step, _ in losses["val_loss"]] == [5, 10, 15] and losses["loss"][-1][0] == 15
    assert losses["val_loss"][-1][1] == pytest.approx(quiet().validate(task, data)["val_loss"], rel=1e-5)
    drawing.main(["--run", str(trainer.run_dir), "--out", str(out), "--reference", "1.47", "--reference_name", "best"])
    assert f"Wrote {out}" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.size == (660, 370)
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert {(31, 119, 180), (255, 127, 14), (0, 0, 0)} <= set(map(tuple, pixels.tolist()))  # both curves, the reference
    with pytest.raises(FileNotFoundError, match=r"`run` to be the folder of a run with metrics\.csv"):
        drawing.read_losses(tmp_path)


# ---- learning


def test_it_learns_a_text_by_heart(letters):
    recorder = Recorder()
    task = TextGeneration(embedding_dim=16, units=64, dropout=0.0, embedding_dropout=0.0, learning_rate=0.01)
    trainer = quiet(max_steps=120, callbacks=[recorder], overfit_batches=2, gradient_clip_val=1.0, limit_val_batches=0)
    trainer.fit(task, TextData(letters, seq_len=10, batch_size=8))
    assert recorder.logs[-1]["loss"] < 0.6 < 2.0 < recorder.logs[0]["loss"]


@real
def test_it_learns_shakespeare():
    sizes = {"embedding_dim": 32, "units": 128, "dropout": 0.0, "embedding_dropout": 0.0}
    task = TextGeneration(**sizes, learning_rate=0.01, warmup_steps=20)
    quiet(max_steps=150, gradient_clip_val=1.0, limit_val_batches=0).fit(task, TextData())
    assert quiet(limit_val_batches=10).validate(task, TextData())["val_loss"] < 2.2


def test_an_example_is_a_text(letters):
    data = data_of(letters)
    (batch,) = data.val_dataset().stream(steps=1, epochs=1).as_numpy_iterator()
    shown = data.show_example({name: one[0] for name, one in batch.items()})
    assert len(shown) == 10 and shown in Path(letters).read_text(encoding="utf-8")
