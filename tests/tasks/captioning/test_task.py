"""The captioning task: what it learns on scenes whose objects are known, and how it is used."""

import csv
import io
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from helpers.photos import own
from PIL import Image

import lightkeras as lk
from lightkeras.verifier.short_run import train
from tasks.captioning import CaptionData, Captioning, evaluate, figures
from tasks.captioning.model import Captioner, PixelGrid, uncovered
from tasks.captioning.photos.pixels import read_image, read_photo
from tasks.captioning.scenes import Object, Scene

TINY = {"embedding_dim": 6, "units": 8, "dropout": 0.0, "warmup_steps": 5, "learning_rate": 0.01}
PRESETS = {path.stem: path for path in Path(evaluate.__file__).parent.glob("presets/*.yaml")}
WORDS, SLOTS, CHANNELS, EMBEDDING, UNITS = 9, 4, 5, 6, 8
CAPTION_IN = np.array([[2, 4, 5, 6], [2, 7, 8, 3], [2, 4, 3, 0]], np.int32)


def of_preset(name):
    """The arguments that `lightkeras fit captioning --preset name` starts from."""
    return {"trainer": {}, "task": {}, "data": {}, **yaml.safe_load(PRESETS[name].read_text(encoding="utf-8"))}


def captioner(pixels=False, **changes):
    """A captioner with random weights, biases too."""
    options = {"cell": "gru", "initial_state": "mean", "dropout": 0.0, "tie_embeddings": True, **changes}
    model = Captioner(WORDS, pixels, EMBEDDING, UNITS, **options)
    model.build((None, 16, 16, 3) if pixels else (None, SLOTS, CHANNELS), (None, None))
    numbers = np.random.default_rng(0)
    model.set_weights([0.5 * numbers.normal(size=w.shape) for w in model.weights])
    return model


def inputs_of(pixels=False):
    shape = (3, 16, 16, 3) if pixels else (3, SLOTS, CHANNELS)
    return np.random.default_rng(1).uniform(-1, 1, shape).astype("float32")


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual, "float32"), np.asarray(expected), rtol=tolerance, atol=tolerance)


# ---- the model


@pytest.mark.parametrize(
    ("pixels", "options"), [(False, {}), (True, {"cell": "lstm", "tie_embeddings": False})], ids=["gru", "lstm, pixels"]
)
def test_next_repeats_the_training_forward_pass(pixels, options):
    model, inputs = captioner(pixels, **options), inputs_of(pixels)
    logits, attention = model(inputs, CAPTION_IN)
    assert logits.shape == (3, 4, WORDS) and attention.shape == (3, 4, 4)
    assert_close(tf.reduce_sum(attention, -1), np.ones((3, 4)))
    states = model.encode(inputs)
    for t in range(4):
        step_logits, states, step_attention = model.next(tf.constant(CAPTION_IN[:, t]), states)
        assert_close(step_logits, logits[:, t])
        assert_close(step_attention, attention[:, t])


def test_a_decoder_that_begins_with_zeros_has_no_bridge():
    model = captioner(initial_state="zeros")
    states, _ = model.encode(inputs_of())
    assert not model.decoder.bridges and [state.numpy().tolist() for state in states] == [np.zeros((3, UNITS)).tolist()]


def test_the_decoder_begins_with_the_mean_of_the_features_and_reads_them_all():
    model, inputs = captioner(cell="lstm"), inputs_of()
    memory = np.maximum(inputs @ model.projection.kernel.numpy() + model.projection.bias.numpy(), 0)
    states, _ = model.encode(inputs)
    for bridge, state in zip(model.decoder.bridges, states, strict=True):
        assert_close(state, np.tanh(memory.mean(1) @ bridge.kernel.numpy() + bridge.bias.numpy()))
    embedded, readout = model.embedding(CAPTION_IN), model.decoder.readout
    outputs, contexts, attention, _ = model.decoder.attention_decoder(embedded, memory, initial_state=states)
    assert_close(contexts, attention.numpy() @ memory)
    read = np.concatenate([outputs, contexts, embedded], -1) @ readout.kernel.numpy() + readout.bias.numpy()
    expected = np.tanh(read) @ model.embedding.embeddings.numpy().T + model.decoder.head.bias.numpy()
    assert_close(model(inputs, CAPTION_IN)[0], expected)


def test_parameters_counted_by_hand():
    projection, bridge = (CHANNELS + 1) * UNITS, (UNITS + 1) * UNITS
    cell = 3 * UNITS * (EMBEDDING + UNITS + UNITS) + 2 * 3 * UNITS
    attention = 2 * UNITS * UNITS + 2 * UNITS
    readout, words = (2 * UNITS + EMBEDDING + 1) * EMBEDDING, WORDS * EMBEDDING + WORDS
    assert captioner().count_params() == projection + bridge + cell + attention + readout + words
    assert captioner(tie_embeddings=False).count_params() - captioner().count_params() == WORDS * EMBEDDING


def test_a_slot_of_the_grid_sees_its_place_and_knows_where_it_is():
    grid = PixelGrid()
    grid.build((None, 32, 32, 3))
    images = np.zeros((2, 32, 32, 3), np.float32)
    images[1, 17:23, 9:15] = 1.0  # within a place
    images[1, 24:, :8] = 1.0  # the lowest place of the left column, to its edges
    made = grid(images).numpy().reshape(2, 4, 4, 130)
    seen = {(int(row), int(column)) for row, column in np.argwhere(np.abs(made[1] - made[0]).sum(-1))}
    assert {(2, 1), (3, 0)} <= seen <= {(2, 1), (3, 0), (2, 0), (3, 1)}
    expected = np.stack(np.meshgrid(np.linspace(-4, 4, 4), np.linspace(-4, 4, 4), indexing="ij"), -1)
    assert_close(made[0, ..., 128:], expected)
    assert_close(made[0, ..., :128], np.zeros((4, 4, 128)))


def test_dropout_is_for_training():
    keras.utils.set_random_seed(0)
    model = captioner(dropout=0.5)
    still = model(inputs_of(), CAPTION_IN)[0].numpy()
    first, second = (model(inputs_of(), CAPTION_IN, training=True)[0].numpy() for _ in range(2))
    assert_close(captioner()(inputs_of(), CAPTION_IN, training=True)[0], still)
    assert min(np.abs(first - second).max(), np.abs(first - still).max()) > 0.1


# ---- the loss


def test_uncovered_by_hand():
    attention = tf.constant([[[0.5, 0.5, 0.0], [0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]])
    # two steps: (0.75, 0.5, 0.75) in all; three: (1.75, 0.5, 0.75)
    assert_close(uncovered(attention, tf.constant([[1.0, 1.0, 0.0]])), [0.25**2 + 0.5**2 + 0.25**2])
    assert_close(uncovered(attention, tf.ones((1, 3))), [0.75**2 + 0.5**2 + 0.25**2])


@pytest.fixture(scope="module")
def untrained():
    """A built task, and its data: pictures of 16 x 16."""
    task, data = Captioning(**TINY), CaptionData("sample", image_size=16, max_images=60, batch_size=8)
    train(task, data, max_steps=1, limit_val_batches=0)
    return task, data


def batch_of(data, split="train"):
    dataset = {"train": data.train_dataset, "validation": data.val_dataset}[split]()
    return next(iter(dataset.stream(seed=1)))


def test_the_loss_counts_every_word_and_the_end(untrained):
    task, data = untrained
    batch = {**batch_of(data), "weight": tf.constant([1.0] * 6 + [0.0] * 2)}
    logits = task.predict_step(batch).numpy().astype(np.float64)
    nats = right = words = 0
    for row, caption in enumerate(batch["caption"].numpy()[:6]):
        for step, word in enumerate(caption[1:]):
            if word:
                of_step = logits[row, step]
                nats += np.log(np.exp(of_step).sum()) - of_step[word]
                right += of_step.argmax() == word
                words += 1
    sums = task.word_losses(batch, training=False)
    assert [float(part) for part in sums["loss"]] == pytest.approx([nats, words], rel=1e-5)
    assert float(sums["token_accuracy"][0]) == right
    assert lk.metrics.Perplexity(*map(float, sums["perplexity"])).result() == pytest.approx(
        np.exp(nats / words), rel=1e-5
    )


def test_labels_are_smoothed_in_training_alone(untrained):
    task, data = untrained
    batch = batch_of(data)
    smoothed, plain = (task.word_losses(batch, training=training) for training in (True, False))
    assert float(smoothed["loss"][0]) != float(plain["loss"][0])
    assert float(smoothed["perplexity"][0]) == pytest.approx(float(plain["perplexity"][0]), rel=1e-6)


def test_the_attention_term_is_added_to_each_caption_in_training(untrained, monkeypatch):
    task, data = untrained
    batch = {**batch_of(data), "weight": tf.constant([1.0] * 5 + [0.0] * 3)}
    plain = {training: float(task.word_losses(batch, training)["loss"][0]) for training in (True, False)}
    monkeypatch.setitem(task.__dict__["_hparams"], "attention_regularization", 0.5)
    _, attention = task.network(batch["image"], batch["caption"][:, :-1])
    steps = (batch["caption"].numpy()[:, 1:] != 0)[:, :, None]
    uneven = ((1 - (attention.numpy() * steps).sum(1)) ** 2).sum(1)[:5].sum()
    assert float(task.word_losses(batch, True)["loss"][0]) == pytest.approx(plain[True] + 0.5 * uneven, rel=1e-5)
    assert float(task.word_losses(batch, False)["loss"][0]) == plain[False]


def test_more_padding_changes_nothing(untrained, monkeypatch):
    task, data = untrained
    monkeypatch.setitem(task.__dict__["_hparams"], "attention_regularization", 1.0)
    batch = batch_of(data)
    padded = {**batch, "caption": tf.pad(batch["caption"], [[0, 0], [0, 7]])}
    for training in (True, False):
        sums, again = (task.word_losses(b, training) for b in (batch, padded))
        for name, (total, weight) in sums.items():
            assert [float(part) for part in again[name]] == pytest.approx([float(total), float(weight)], rel=1e-6)


# ---- captioning scenes


@pytest.fixture(scope="module")
def learned():
    """The network of the sample preset after six of its ten epochs, and the data."""
    made = of_preset("sample")
    task, data = Captioning(**made["task"]), CaptionData(**made["data"])
    train(
        task, data, max_epochs=6, gradient_clip_val=made["trainer"]["gradient_clip_val"],
        limit_val_batches=0, log_every_n_steps=1000, steps_per_execution="auto",
    )  # fmt: skip
    return task, data


def captions_of(task, data, **search):
    return [best for inputs in data.inputs("test") for (best,) in task.search_inputs(inputs, **search)]


def test_a_score_is_that_of_teacher_forcing(learned):
    task, data = learned
    inputs = next(data.inputs("test"))[:2]
    for beam_size, n_best in ((1, 1), (4, 3)):
        for row, found in enumerate(task.search_inputs(inputs, beam_size, length_penalty=0.0, n_best=n_best)):
            assert len(found) == n_best and [one.score for one in found] == sorted(
                (o.score for o in found), reverse=True
            )
            for one in found:
                caption = data.encode_caption(one.text.split())[None]
                batch = {"image": inputs[row : row + 1], "caption": caption, "weight": np.ones(1, np.float32)}
                loss = task.word_losses({name: tf.constant(value) for name, value in batch.items()}, False)["loss"]
                assert one.score == pytest.approx(-float(loss[0]), rel=1e-4, abs=1e-4)
                _, attention = task.network(inputs[row : row + 1], caption[:, :-1])
                assert_close(one.attention, attention[0, : len(one.words)], 1e-4)


def test_a_caption_does_not_depend_on_the_others(learned):
    task, data = learned
    inputs = np.concatenate(list(data.inputs("test")))[:40]  # more than are captioned at once
    together = [best.text for (best,) in task.search_inputs(inputs)]
    assert together[:2] == [best.text for row in (0, 1) for (best,) in task.search_inputs(inputs[row : row + 1])]
    assert [best.text for (best,) in task.search_inputs(inputs[::-1])] == together[::-1]


# ---- what the sample preset learns


@pytest.fixture(scope="module")
def described(learned):
    """The figures of unseen scenes."""
    return evaluate.evaluate(learned[0])


def test_unseen_scenes_are_described_word_for_word(described):
    assert described["photos"] == 300 and described["model"]["exact"] > 0.95
    assert described["nearest photo"]["exact"] < 0.05


def test_the_attention_of_an_objects_word_lies_on_that_object(described):
    assert described[evaluate.ATTENDED] > 0.8


def test_the_share_of_the_attention_by_hand():
    thing = Object("red", "square", (0, 0), (0.25, 0.25), 0.12)
    other = Object("blue", "circle", (2, 2), (0.8, 0.8), 0.1)
    scene = Scene((thing, other))
    attention = np.arange(16.0) / 120  # 4 x 4; the square lies in the places 0, 1, 4 and 5
    assert scene.attended("red", attention) == scene.attended("square", attention) == pytest.approx(10 / 120)
    assert scene.attended("above", attention) == 0.0


# ---- evaluation


def test_the_score_is_that_of_the_greedy_captions(learned):
    task, data = learned
    scores = task.score(data.test_dataset().stream(epochs=1))
    made = captions_of(task, data, beam_size=1)
    texts, references = [one.text for one in made], [list(own) for own in data.references("test")]
    assert set(scores) == set(task.score_names)
    bleu = lk.metrics.CaptionBLEU.from_sentences(texts, references)
    for order in (1, 2, 3, 4):
        assert scores[f"bleu_{order}"].result() == pytest.approx(bleu.up_to(order).result())
    frequencies = lk.metrics.DocumentFrequencies(references)
    assert scores["cider"].result() == pytest.approx(
        lk.metrics.CIDErD.from_sentences(texts, references, frequencies).result()
    )
    assert scores["rouge_l"].result() == pytest.approx(lk.metrics.ROUGEL.from_sentences(texts, references).result())
    entropy = np.mean([-(row * np.log(np.maximum(row, 1e-30))).sum() for one in made for row in one.attention])
    assert scores["attention_entropy"].result() == pytest.approx(entropy, rel=1e-4)
    assert scores["empty"] == lk.metrics.WeightedMean(0.0, len(texts)) and scores["repeating"].weight == len(texts)


def test_scores_of_parts_add_up_a_worker_without_photos_included(untrained):
    task, data = untrained
    batches = list(data.train_dataset().stream(seed=1, epochs=1))[:3]
    weights = batches[2]["weight"]
    parts = [task.score([batch]) for batch in batches]
    whole, nothing = task.score(batches), task.score([{**batches[2], "weight": tf.zeros_like(weights)}])
    for name in task.score_names:
        vectors = [getattr(part[name], "sums", part[name]) for part in (*parts, nothing)]
        np.testing.assert_allclose(getattr(whole[name], "sums", whole[name]), np.sum(vectors, axis=0), rtol=1e-9)
    assert type(nothing["bleu_1"]) is lk.metrics.CaptionBLEU and tuple(nothing["empty"]) == (0.0, 0.0)


def test_captions_without_a_model_and_the_table(tmp_path, capsys):
    folder = own(tmp_path / "own")
    data = CaptionData(folder, encoder="small", image_size=8, features_dir=str(tmp_path / "f"), batch_size=8)
    data.prepare_data()
    data.setup("fit")
    similar = evaluate.nearest(data)
    assert len(similar) == len(data.names("test")) == 3 and all(text.startswith("a photo of") for text in similar)
    data.references = lambda split: [("One dog.", "Two"), ("A cat", "two!")] * (2 if split == "train" else 1)
    assert evaluate.most_frequent(data) == ["two", "two"]


def test_the_nearest_photo_is_that_of_the_most_similar_features():
    class Three:
        input_name = "features"

        def inputs(self, split):
            train = np.array([[[1.0, 0], [1, 0]], [[0, 1], [0, 3]], [[1, 1], [1, 1]]])
            yield train if split == "train" else 5 * train[[2, 0]] + 0.1

        def references(self, split):
            return [("First one",), ("Second",), ("Third", "x")]

    assert evaluate.nearest(Three()) == ["third", "first one"]
    np.testing.assert_allclose(evaluate.pooled(Three(), "train")[1], [0.0, 1.0])


# ---- a run, and using it


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's trainer after its fit, the history, and the task."""
    root = tmp_path_factory.mktemp("runs")
    data = CaptionData("sample", image_size=16, max_images=60, batch_size=16)
    trainer = lk.Trainer(
        max_epochs=2, limit_train_batches=3, default_root_dir=str(root), enable_progress_bar=False,
        callbacks=[lk.callbacks.SampleWriter()],
    )  # fmt: skip
    task = Captioning(**TINY)
    return trainer, trainer.fit(task, data).history, task


def test_a_run_logs_scores_and_writes_samples(run):
    trainer, history, _ = run
    assert len(history["val_cider"]) == len(history["val_bleu_4"]) == 2
    text = (trainer.run_dir / "samples" / "epoch_0002.txt").read_text(encoding="utf-8")
    assert text.count("reference") == text.count("caption ") == 6
    with Image.open(trainer.run_dir / "samples" / "epoch_0002.png") as picture:
        assert picture.width == 1100


def test_the_report_has_captions_and_where_each_word_looked(run):
    trainer, _, task = run
    page = (trainer.run_dir / "report.html").read_text(encoding="utf-8")
    assert "Each panel is light where the caption&#39;s word looked." in page
    (section,) = task.report_sections()
    *pictures, table = section.blocks
    assert [row[0] for row in table.rows] == task.data.names("validation")[:6] and len(pictures) == 2
    assert [one.title for one in pictures] == [row[1] for row in table.rows[1:3]]
    with Image.open(io.BytesIO(pictures[0].data)) as picture:
        assert picture.width == 1100


@pytest.fixture(scope="module")
def again(run):
    return Captioning.load_from_checkpoint(str(run[0].run_dir))


def test_a_trained_task_is_made_again_without_its_data(run, again, tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    assert not hasattr(again.data, "_splits")
    text = again.caption(tmp_path / "red.png")
    assert isinstance(text, str) and text == again.caption(str(tmp_path / "red.png"))
    with Image.open(tmp_path / "red.png") as opened:
        assert again.caption([opened, tmp_path / "red.png"]) == [text, text]
    last = Captioning.load_from_checkpoint(str(run[0].run_dir / "last"))
    for restored, trained in zip(last.weights, run[2].weights, strict=True):
        np.testing.assert_array_equal(restored, trained)


@pytest.mark.parametrize(
    ("mode", "size", "height"),
    [("L", (1, 900), 265), ("CMYK", (64, 40), 182.5), ("I;16", (200, 150), 210), ("RGBA", (500, 7), 133)],
)
def test_where_it_looked_is_drawn_on_photos_of_any_size_and_mode(again, tmp_path, mode, size, height):
    Image.new(mode, size).save(tmp_path / "photo.tif")
    (text,) = again.predict_command(image=str(tmp_path / "photo.tif"), out=str(tmp_path / "attention.png"))
    words = again.search([tmp_path / "photo.tif"])[0][0].words
    assert text == " ".join(words[: len(text.split())])
    with Image.open(tmp_path / "attention.png") as picture:
        assert picture.size == (1100, pytest.approx(height * np.ceil((len(words) + 1) / 5), abs=1))
    with pytest.raises(FileExistsError, match="out"):
        again.predict_command(image=str(tmp_path / "photo.tif"), out=str(tmp_path / "attention.png"))


def test_a_folder_gives_a_table_and_names_what_is_no_photo(again, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 20), "red").save(tmp_path / "photos" / "b, red.png")
    Image.new("L", (9, 9)).save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    lines = list(again.predict_command(folder=str(tmp_path / "photos"), out=str(tmp_path / "captions.csv")))
    assert len(lines) == 2 and "notes.txt" in lines[0] and lines[1].endswith("captions of 2 of 3 files")
    with open(tmp_path / "captions.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "caption", "score"] and [row[0] for row in rows] == ["a.jpg", "b, red.png"]
    ((best,),) = again.search([tmp_path / "photos" / "a.jpg"])
    assert rows[0][1] == best.text and float(rows[0][2]) == pytest.approx(best.score, abs=1e-3)


def test_bad_arguments_are_refused(again, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"broken\.jpg to be an image"):
        again.caption(str(broken))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        again.caption("nowhere.jpg")
    with pytest.raises(TypeError, match="a list of photos"):
        again.search("photo.jpg")
    with pytest.raises(ValueError, match="beam_size"):
        again.caption(str(broken), beam_size=0)
    for arguments, name in (({}, "image"), ({"image": "a", "folder": "b"}, "image"), ({"folder": "."}, "out")):
        with pytest.raises(ValueError, match=name):
            again.predict_command(**arguments)
    bad = {"units": 0, "dropout": 1.0, "cell": "rnn", "initial_state": "one", "attention_regularization": -1.0}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name):
            Captioning(**{name: value})


def test_the_evaluation_prints_a_table_and_writes_figures(run, tmp_path, capsys):
    out = tmp_path / "figures.json"
    evaluate.main(["--ckpt_path", str(run[0].run_dir), "--beam_size", "2", "--out", str(out)])
    printed = capsys.readouterr().out
    lines = [line.split("  ")[0].split(": ")[0] for line in printed.splitlines()]
    ways = ["model", "nearest photo", "most frequent caption"]
    assert lines == ["captions", *ways, evaluate.ATTENDED, "6 photos, beams of 2"]
    assert '"cider"' in out.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        evaluate.main(["--ckpt_path", str(run[0].run_dir), "--out", str(out)])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_what_task_and_data_take(name):
    made = of_preset(name)
    lk.Trainer(**{**made["trainer"], "callbacks": None})
    Captioning(**made["task"])
    data = CaptionData(**made["data"])
    assert data.encoder.name == {"default": "InceptionV3", "small": "MobileNetV2", "sample": "small"}[name]


# ---- pictures


def test_attention_is_spread_over_the_picture():
    weights = np.zeros(9, np.float32)
    weights[5] = 1.0  # the right of the middle row
    light = figures.spread(weights, 30, 60)
    assert light.shape == (30, 60) and light.min() == 0.0
    assert np.unravel_index(light.argmax(), light.shape)[0] in range(10, 20) and light[:, :15].max() < 0.01
    with pytest.raises(ValueError, match="Received: 8 slots"):
        figures.spread(weights[:8], 30, 60)
    photo = np.full((30, 60, 3), 200, np.uint8)
    shown = figures.light(photo, weights)
    assert shown.max() == 200 and shown.min() == 30  # 15 %


def test_a_photo_in_its_own_proportions():
    photo = Image.new("RGB", (640, 320), (10, 20, 30))
    assert read_photo(photo, 100).shape == (50, 100, 3) and read_photo(photo.crop((0, 0, 1, 320)), 100).shape == (
        100,
        1,
        3,
    )
    np.testing.assert_array_equal(read_image(photo, 8), np.broadcast_to(np.uint8([10, 20, 30]), (8, 8, 3)))
