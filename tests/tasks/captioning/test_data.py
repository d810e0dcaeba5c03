"""Annotations, sources, drawn scenes, and the batches of captions made of them."""

import functools
import http.server
import io
import itertools
import json
import os
import pathlib
import threading
import zipfile

import numpy as np
import pytest
from helpers.photos import grey, own

import lightkeras as lk
from lightkeras.text import rows_cache
from tasks.captioning import CaptionData
from tasks.captioning.photos import annotations, encoding, json_lists, tables
from tasks.captioning.photos import sources as sources_module
from tasks.captioning.photos.photo_list import Photo
from tasks.captioning.photos.sources import find_photos, open_photos
from tasks.captioning.scenes import BACKGROUND, COLOURS, RELATIONS, SHAPES, make_scenes

DATA = os.environ.get("LIGHTKERAS_DATA", "")
real = pytest.mark.skipif(
    not os.path.exists(os.path.join(DATA, "flickr8k", "images")), reason="LIGHTKERAS_DATA has no photos"
)


@pytest.fixture(autouse=True)
def clean_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("KERAS_HOME", raising=False)


# ---- annotations

COCO = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "split": "val", "width": 4, "height": 3, "coco_url": "http://x/b.jpg"},
        {"id": 3, "file_name": "sub/a.jpg", "split": "none"},
    ],
    "annotations": [
        {"image_id": 3, "caption": "One."},
        {"image_id": 7, "caption": " Two\n"},
        {"image_id": 7, "caption": " . "},
        {"image_id": 7, "caption": "Three"},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "a.jpg", "filepath": "val2014", "split": "restval", "sentences": [{"raw": "One"}, {"raw": "Two"}]},
        {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "Three"}]},
    ]
}


def written(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def read_annotations(file, folder):
    return list(open_photos([pathlib.Path(file)], lambda file, some: pathlib.Path(folder)))


def test_coco(tmp_path):
    photos = read_annotations(written(tmp_path / "c.json", COCO), "/photos")
    assert photos == [
        Photo(pathlib.Path("/photos/b.jpg"), ("Two", "Three"), "validation", "http://x/b.jpg", (4, 3)),
        Photo(pathlib.Path("/photos/sub/a.jpg"), ("One.",), "none"),
    ]


def test_karpathy(tmp_path):
    photos = read_annotations(written(tmp_path / "k.json", KARPATHY), "/photos")
    assert photos == [
        Photo(pathlib.Path("/photos/val2014/a.jpg"), ("One", "Two"), "train"),
        Photo(pathlib.Path("/photos/b.jpg"), ("Three",), "test"),
    ]


@pytest.mark.parametrize("start", ["", "image,caption\n", "\ufeffFile_Name,text\n", "\n"])
def test_csv(tmp_path, start):
    text = f'{start}a.jpg,A dog .\nb.jpg,"A cat, a ""big"" one"\na.jpg,Two\r\nc.jpg,Three\n'
    photos = read_annotations(written(tmp_path / "c.csv", text), "/photos")
    assert [(photo.path.name, photo.captions) for photo in photos] == [
        ("a.jpg", ("A dog .", "Two")),
        ("b.jpg", ('A cat, a "big" one',)),
        ("c.jpg", ("Three",)),
    ]


def without(document, *keys):
    """A copy that lacks what `keys` lead to."""
    copy = json.loads(json.dumps(document))
    del functools.reduce(lambda part, key: part[key], keys[:-1], copy)[keys[-1]]
    return copy


def changed(document, value, *keys):
    copy = json.loads(json.dumps(document))
    functools.reduce(lambda part, key: part[key], keys[:-1], copy)[keys[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (without(COCO, "images"), r'to have the key "images" .*Received: annotations'),
        (without(COCO, "annotations"), r'to have the key "annotations" .*Received: images'),
        ([1], 'to have the key "images".*Received: a list'),
        (changed(COCO, {}, "images"), "`images` to be a list of objects"),
        (without(COCO, "images", 0, "id"), 'every image in .* the key "id" .*Received: the keys file_name'),
        (without(COCO, "images", 0, "file_name"), 'every image in .* the key "file_name"'),
        (without(COCO, "annotations", 1, "caption"), 'every annotation in .* the key "caption"'),
        (changed(COCO, 5, "annotations", 1, "caption"), 'the key "caption" .str.. Received: caption=5'),
        (without(COCO, "annotations", 1, "image_id"), 'every annotation in .* the key "image_id"'),
        (without(KARPATHY, "images", 1, "sentences"), 'every image in .* the key "sentences"'),
        (without(KARPATHY, "images", 1, "filename"), 'every image in .* the key "filename"'),
        (without(KARPATHY, "images", 0, "sentences", 0, "raw"), 'every sentence in .* the key "raw"'),
        (changed(COCO, 9, "annotations", 0, "image_id"), "its image in `images`. Received: 1 image ids without: 9"),
        (changed(COCO, 7, "annotations", 0, "image_id"), "to have a caption. Received: 1 without one: sub/a.jpg"),
        (changed(COCO, "b.jpg", "images", 1, "file_name"), "listed once. Received: 1 listed more often: b.jpg"),
        (changed(COCO, "../a.jpg", "images", 1, "file_name"), r"stay within their folder. Received: '\.\./a.jpg'"),
        (changed(COCO, "/a.jpg", "images", 1, "file_name"), "stay within their folder"),
        (changed(COCO, "valid", "images", 1, "split"), 'Received: split.*"val"'),
        ({"images": [], "annotations": []}, "a file with captions"),
        ('{"images": [', "to be JSON. Received: Expecting value"),
        ("[" * 100_000, "to be JSON. Received: maximum recursion depth"),
        ('{"images": [' + "1" * 5000, "to be JSON. Received: Exceeds the limit"),
        (changed(COCO, "\ud800", "annotations", 0, "caption"), "Unicode text. Received: caption="),
        (changed(COCO, "a\0b", "images", 1, "file_name"), "file names in .* to be possible"),
        (changed(COCO, "a" * 300, "images", 1, "file_name"), "file names in .* to be possible"),
        (changed(KARPATHY, 5, "images", 0, "filepath"), 'the key "filepath" .str.'),
    ],
)
def test_json_of_another_shape(tmp_path, document, message):
    with pytest.raises(ValueError, match=message):
        read_annotations(written(tmp_path / "c.json", document), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,one\nb.jpg,two, three\n", "two columns.* Received: 3 in line 2"),
        ("a.jpg,one\nb.jpg\n", "Received: 1 in line 2"),
        ('a.jpg,"one\nb.jpg,two\n', "to be CSV. Received: unexpected end of data"),
        ("a.jpg,one\n../b.jpg,two\n", "stay within their folder"),
        ("a.jpg,one\nb.jpg, .\n", "1 without one: b.jpg"),
        ("image,caption\n", "a file with captions"),
        ("", "not empty"),
    ],
)
def test_csv_of_another_shape(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_annotations(written(tmp_path / "c.csv", text), tmp_path)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"one of '.json', '.csv', '.tsv', '.txt', '.token'"):
        read_annotations(written(tmp_path / "c.doc", ""), tmp_path)
    (tmp_path / "c.csv").write_bytes(b"a.jpg,caf\xe9\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_annotations(tmp_path / "c.csv", tmp_path)


FLICKR30K = """image_name| comment_number| comment
a.jpg| 0| A dog | with a "bar, runs .
a.jpg| 4   A dog runs across the grass .
b.jpg| 0| A cat .
"""
TABLES_OF_PEOPLE = {
    "captions.txt": 'image,caption\na.jpg,"A dog, with a ""bar, runs ."\na.jpg,Two dogs, three cats .\nb.jpg,A cat .\n',
    "Flickr8k.token.txt": 'a.jpg#0\tA dog, with a "bar, runs .\r\n'
    "a.jpg#1\tTwo dogs, three cats .\r\nb.jpg#0\tA cat .\r\n",
    "results.csv": FLICKR30K,
    "joined.csv": "image,caption\na.jpg,One\nb.jpg,Two\nimage,caption\nc.jpg,Three\n",
    "plain.tsv": "a.jpg\tOne, two\nb.jpg\tThree\n",
    "numbers.txt": "image_name,comment_number,comment\na.jpg,0, One, two\nb.jpg,1, Three\n",
}
CAPTIONS_OF_PEOPLE = {
    "captions.txt": {"a.jpg": ('A dog, with a "bar, runs .', "Two dogs, three cats ."), "b.jpg": ("A cat .",)},
    "results.csv": {"a.jpg": ('A dog | with a "bar, runs .', "A dog runs across the grass ."), "b.jpg": ("A cat .",)},
    "joined.csv": {"a.jpg": ("One",), "b.jpg": ("Two",), "c.jpg": ("Three",)},
    "plain.tsv": {"a.jpg": ("One, two",), "b.jpg": ("Three",)},
}
CAPTIONS_OF_PEOPLE["Flickr8k.token.txt"] = CAPTIONS_OF_PEOPLE["captions.txt"]
CAPTIONS_OF_PEOPLE["numbers.txt"] = CAPTIONS_OF_PEOPLE["plain.tsv"]


@pytest.mark.parametrize("name", TABLES_OF_PEOPLE)
def test_tables_as_people_have_them(tmp_path, name):
    (tmp_path / name).write_bytes(TABLES_OF_PEOPLE[name].encode())
    photos = read_annotations(tmp_path / name, "")
    assert {photo.path.name: photo.captions for photo in photos} == CAPTIONS_OF_PEOPLE[name]


def test_a_line_without_its_delimiter_is_told(tmp_path, capsys):
    read_annotations(written(tmp_path / "results.csv", FLICKR30K), "")
    assert "Read 1 lines of" in (said := capsys.readouterr().out) and "the first is line 3" in said


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("captions.txt", "Images"), ("Flickr8k.token.txt", "Flicker8k_Dataset"),
        ("Flickr8k_text/Flickr8k.token.txt", "Flicker8k_Dataset"), ("flickr/results.csv", "flickr/flickr30k_images"),
    ],
)  # fmt: skip
def test_folders_as_people_have_them(tmp_path, file, images):
    """Beside Flickr8k's other files, which are no captions."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    written(tmp_path / file, TABLES_OF_PEOPLE[pathlib.Path(file).name])
    (tmp_path / images).mkdir()
    for name in ("a.jpg", "b.jpg"):
        grey(9).save(tmp_path / images / name)
    (tmp_path / "thumbnails").mkdir()
    beside = (tmp_path / file).parent
    written(beside / "readme.txt", "Captions, and more")
    written(beside / "Flickr8k.lemma.token.txt", "a.jpg#0\ta dog run .\n")
    written(beside / "ExpertAnnotations.txt", "a.jpg\tb.jpg#2\t1\t1\t1\n")
    written(beside / "Flickr_8k.trainImages.txt", "a.jpg\n")
    written(beside / "._captions.txt", "image,caption\n")
    photos = find_photos(str(tmp_path), None, None, False)
    assert {str(photo.path.relative_to(tmp_path)) for photo in photos} == {f"{images}/a.jpg", f"{images}/b.jpg"}


# ---- a folder of one's own


def data_of(folder, stage="fit", **options):
    """Data set up; the pixels are the features."""
    features = os.path.join(os.path.dirname(folder), "features")
    data = CaptionData(folder, **{"encoder": "small", "image_size": 8, "features_dir": features, **options})
    data.prepare_data()
    data.setup(stage)
    return data


def batches(dataset):
    return list(dataset.stream(epochs=1).as_numpy_iterator())


def rows(dataset):
    """All rows but padding, of every entry."""
    made = batches(dataset)
    whole = {name: np.concatenate([batch[name] for batch in made]) for name in made[0]}
    return {name: value[whole["weight"] > 0] for name, value in whole.items()}


def shades(images):
    """The shade that was drawn, for images in [-1, 1]."""
    return np.round((images[:, 0, 0, 0] + 1) * 127.5).astype(int)


def number(path):
    return int(pathlib.Path(path).stem)


def test_each_row_has_a_photo_and_its_caption(tmp_path):
    data = data_of(own(tmp_path / "own"), batch_size=7)
    assert (data.input_name, data.input_shape, data.caption_length) == ("image", (8, 8, 3), 7)
    made = rows(data.train_dataset())
    assert made["image"].shape == (48, 8, 8, 3) and made["image"].dtype == np.float32  # 24 photos, two captions each
    assert made["caption"].shape == (48, 7) and made["caption"].dtype == np.int32 and made["index"].dtype == np.int64
    names, references = data.names("train"), data.references("train")
    for image, caption, index in zip(made["image"], made["caption"], made["index"], strict=True):
        which = number(names[index])
        assert shades(image[None]) == 8 * which
        words = data.vocabulary.decode(caption)
        assert words in (["a", "photo", "of", f"number{which}"], ["it", "'s", f"number{which}", "in", "grey"])
        assert references[index] == (f"A photo of number{which}.", f"It's number{which}, in grey!")
    assert sorted(made["index"]) == sorted([*range(24), *range(24)])


def test_captions_begin_and_end_with_marks(tmp_path):
    data = data_of(own(tmp_path / "own"))
    ids = data.encode_caption(["a", "photo", "zebra"])
    a, photo = data.vocabulary.encode(["a", "photo"])
    assert ids.tolist() == [lk.text.START, a, photo, lk.text.UNKNOWN, lk.text.END, lk.text.PAD, lk.text.PAD]


def test_a_cut_caption_has_no_end(tmp_path, capsys):
    data = data_of(own(tmp_path / "own"), max_length=4)
    assert data.caption_length == 6
    ids = data.encode_caption(["it", "'s", "number1", "in", "grey"])
    assert data.vocabulary.decode(ids) == ["it", "'s", data.vocabulary.decode(ids)[2], "in"] and lk.text.END not in ids
    assert data.encode_caption(["it", "'s", "in", "grey"])[-1] == lk.text.END
    assert "Cut 24 of 48 training captions to 4 words" in capsys.readouterr().out


def test_evaluation_takes_each_photo_once_in_order(tmp_path):
    data = data_of(own(tmp_path / "own"), batch_size=2)
    for split, dataset in (("validation", data.val_dataset()), ("test", data.test_dataset())):
        made = rows(dataset)
        assert made["index"].tolist() == [0, 1, 2]
        numbers = [number(name) for name in data.names(split)]
        assert shades(made["image"]).tolist() == [8 * i for i in numbers]
        assert [len(captions) for captions in data.references(split)] == [2, 2, 2]
        assert data.image(split, 2, size=5).shape == (5, 5, 3)
        assert data.image(split, 2)[0, 0, 0] == 8 * numbers[2]
    assert data.train_dataset().element_spec == data.val_dataset().element_spec


def test_the_split_is_by_photo_and_stays(tmp_path):
    data = data_of(own(tmp_path / "own"))
    parts = [set(data.names(split)) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [24, 3, 3] and len(set.union(*parts)) == 30
    again = data_of(str(tmp_path / "own"))
    assert [set(again.names(split)) for split in ("train", "validation", "test")] == parts
    half = data_of(str(tmp_path / "own"), val_fraction=0.5, test_fraction=0.2)
    assert [len(half.names(split)) for split in ("train", "validation", "test")] == [9, 15, 6]


def test_a_split_that_photos_carry_is_kept(tmp_path):
    splits = ["train", "restval", "val", "test", "none"] * 6
    data = data_of(own(tmp_path / "own", splits=splits))
    found = {split: {number(name) % 5 for name in data.names(split)} for split in ("train", "validation", "test")}
    assert found == {"train": {0, 1}, "validation": {2}, "test": {3}}
    assert len(data.names("train")) == 12


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", "val", "test"] * 5 + [None] * 15, "given for all photos or for none.*15 of 30 photos of .* without"),
        (["train", "val"] * 15, "Received: source='.*own, none for test'"),
        (["none"] * 30, "photos with captions"),
    ],
)
def test_splits_that_cannot_be(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        data_of(own(tmp_path / "own", splits=splits))


def test_parts_of_coco_are_no_split(tmp_path):
    data = data_of(own(tmp_path / "own", splits=["train2017", "val2017"] * 15))
    assert [len(data.names(split)) for split in ("train", "validation", "test")] == [24, 3, 3]


def test_the_vocabulary_is_of_training_captions_alone(tmp_path):
    data = data_of(own(tmp_path / "own"))
    numbers = {f"number{number(name)}" for name in data.names("train")}
    assert set(data.vocabulary.words) == numbers | {"a", "photo", "of", "it", "'s", "in", "grey"}


def test_the_vocabulary_has_the_most_frequent_words(tmp_path, capsys):
    data = data_of(own(tmp_path / "own"), vocabulary_size=7)
    assert set(data.vocabulary.words) == {"a", "photo", "of", "it", "'s", "in", "grey"} and len(data.vocabulary) == 11
    assert "48 of 216 words in the training captions are not in the vocabulary" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"at most 31, the number of different words .*vocabulary_size=32"):
        data_of(str(tmp_path / "own"), vocabulary_size=32)


def test_fewer_photos_are_a_part_of_more(tmp_path):
    folder = own(tmp_path / "own")
    names = [[photo.path.name for photo in find_photos(folder, None, most, False)] for most in (5, 12, None)]
    assert [len(some) for some in names] == [5, 12, 30] and names[1][:5] == names[0] and names[2][:12] == names[1]
    assert names[2] != [f"{i}.png" for i in range(30)]  # not in the order of the file
    assert len(data_of(folder, max_images=10).names("train")) == 8


def test_where_the_photos_are_looked_for(tmp_path):
    own(tmp_path / "a")
    assert len(find_photos(str(tmp_path / "a" / "captions.json"), None, None, False)) == 30
    own(tmp_path / "b", beside="elsewhere")
    assert len(find_photos(str(tmp_path / "b"), str(tmp_path / "b" / "elsewhere"), None, False)) == 30
    own(tmp_path / "c")
    (tmp_path / "c" / "annotations").mkdir()
    (tmp_path / "c" / "captions.json").rename(tmp_path / "c" / "annotations" / "captions.json")
    assert len(find_photos(str(tmp_path / "c"), None, None, False)) == 30
    own(tmp_path / "d", beside=".")
    assert len(find_photos(str(tmp_path / "d"), None, None, False)) == 30


def test_sources_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r'"download", "download-2017", "coco".*"sample", or an existing file'):
        find_photos("flickr", None, None, False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"one file with captions.*with none"):
        find_photos(str(tmp_path / "empty"), None, None, False)
    own(tmp_path / "own")
    written(tmp_path / "own" / "more.csv", "a.jpg,one")
    with pytest.raises(ValueError, match=r"with captions\.json, more\.csv"):
        find_photos(str(tmp_path / "own"), None, None, False)
    with pytest.raises(ValueError, match="`image_folder` to be an existing folder"):
        find_photos(str(tmp_path / "own" / "captions.json"), "nowhere", None, False)
    for root in (None, str(tmp_path)):
        monkeypatch.setenv("LIGHTKERAS_DATA", root or "")
        if root is None:
            monkeypatch.delenv("LIGHTKERAS_DATA")
        with pytest.raises(ValueError, match="`LIGHTKERAS_DATA` to be set to a folder with flickr8k/annotations/"):
            find_photos("flickr8k", None, None, False)


def test_missing_photos(tmp_path):
    folder = own(tmp_path / "own")
    for name in ("4.png", "11.png"):
        (tmp_path / "own" / "images" / name).unlink()
    with pytest.raises(ValueError, match=r"Expected every photo to exist.*2 of 30 missing: .*png, .*png"):
        data_of(folder)
    with pytest.warns(UserWarning, match="Left out 2 of 30 photos that are missing"):
        data = data_of(folder, skip_corrupt=True)
    assert sum(len(data.names(split)) for split in ("train", "validation", "test")) == 28


def test_unreadable_photos(tmp_path):
    folder = own(tmp_path / "own")
    broken = tmp_path / "own" / "images" / "4.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    with pytest.raises(ValueError, match=r"skip_corrupt=True .*1 of 30 that are not: .*4\.png \(.*\)"):
        data_of(folder)
    with pytest.warns(UserWarning, match="Left out 1 of 30 unreadable photos"):
        data = data_of(folder, skip_corrupt=True)
    every = [number(name) for split in ("train", "validation", "test") for name in data.names(split)]
    assert sorted(every) == [i for i in range(30) if i != 4]
    for made, split in ((rows(data.train_dataset()), "train"), (rows(data.test_dataset()), "test")):
        assert shades(made["image"]).tolist() == [8 * number(data.names(split)[i]) for i in made["index"]]
    broken.write_bytes(whole)
    assert len(data_of(folder).names("train")) == 24  # mended: it is noticed


def test_setup_without_features(tmp_path):
    data = CaptionData(own(tmp_path / "own"), encoder="small", features_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"call `prepare_data\(\)` first"):
        data.setup("fit")


def test_features_have_a_folder_for_each_source_and_setting(tmp_path):
    a, b = own(tmp_path / "a"), own(tmp_path / "b")
    options = ({}, {"image_size": 16}, {"encoder": "MobileNetV2"})
    folders = [CaptionData(s, **{"encoder": "small", **o}).feature_folder for s in (a, b) for o in options]
    assert len(set(folders)) == 6
    assert folders[0].parent == tmp_path / "home" / ".keras" / "datasets" / "features"
    assert folders[0].name.startswith("a-small-")


# ---- annotations larger than memory


def as_karpathy(coco):
    texts = {image["id"]: [] for image in coco["images"]}
    for one in coco["annotations"]:
        texts[one["image_id"]].append({"raw": one["caption"]})
    images = [{"filename": image["file_name"], "sentences": texts[image["id"]]} for image in coco["images"]]
    return json.dumps({"images": images})


def as_table(coco):
    """The second captions after all first ones."""
    rows = [f'{one["image_id"]}.png,"{one["caption"]}"' for one in coco["annotations"]]
    return "\ufeffimage,caption\r\n" + "\r\n".join([*rows[::2], "", *rows[1::2]])


def with_captions_first(coco):
    return json.dumps({"info": {"a": [1, "é"]}, "annotations": coco["annotations"], "images": coco["images"]}, indent=1)


FORMS = {"a.json": with_captions_first, "b.json": as_karpathy, "c.csv": as_table}


def all_of(data):
    parts = {split: (data.names(split), list(data.references(split))) for split in ("train", "validation", "test")}
    made = [rows(one) for one in (data.train_dataset(), data.test_dataset())]
    return parts, [{name: value.tolist() for name, value in one.items()} for one in made], data.state_dict()


@pytest.mark.parametrize("name", FORMS)
def test_annotations_on_the_disk_give_what_those_in_memory_give(tmp_path, monkeypatch, name):
    folder = tmp_path / "own"
    own(folder)
    coco = json.loads((folder / "captions.json").read_text())
    for one in coco["annotations"]:
        one["caption"] += " été"
    (folder / "captions.json").unlink()
    (folder / name).write_text(FORMS[name](coco), encoding="utf-8", newline="")
    expected = all_of(data_of(str(folder), batch_size=7))
    for module, changed_name, value in (
        (encoding, "IN_MEMORY", 0), (rows_cache, "SAVE_BLOCKS", 1), (annotations, "BLOCK", 4), (tables, "BLOCK", 4),
        (json_lists, "CHUNK", 7),
    ):  # fmt: skip
        monkeypatch.setattr(module, changed_name, value)
    encode, calls = encoding.Encoder.encode, []

    def cut(encoder, records, part=0):
        calls.append(len(records))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(encoder, records, part)

    monkeypatch.setattr(encoding.Encoder, "encode", cut)
    with pytest.raises(KeyboardInterrupt):
        data_of(str(folder))
    data = data_of(str(folder), batch_size=7)
    assert all_of(data) == expected and not data.photos_on_disk().table.texts.in_memory
    records = sum(len(block) for file in [folder / name] for block, _ in annotations.read_records(file))
    assert sum(calls) - calls[5] == records  # nothing was encoded twice


# ---- state


def test_a_trained_run_keeps_its_vocabulary(tmp_path):
    folder = own(tmp_path / "own")
    data = data_of(folder)
    state = json.loads(json.dumps(data.state_dict()))
    other = CaptionData(own(tmp_path / "other", count=12), encoder="small", image_size=8, features_dir=str(tmp_path))
    other.load_state_dict(state)
    assert (other.vocabulary, other.caption_length, other.input_shape) == (data.vocabulary, 7, (8, 8, 3))
    other.prepare_data()
    other.setup("test")
    assert other.vocabulary == data.vocabulary
    assert rows(other.test_dataset())["caption"].shape == (1, 7)


def test_another_encoder_than_in_training_is_refused(tmp_path):
    folder = own(tmp_path / "own")
    state = data_of(folder).state_dict()
    other = CaptionData(folder, encoder="small", image_size=16)
    other.load_state_dict(state)
    for use in (lambda: other.setup("test"), lambda: other.encode_images([])):
        with pytest.raises(ValueError, match=r"`encoder` to be as in training.*'image_size': 8.*'image_size': 16"):
            use()


def test_photos_of_ones_own_are_encoded_as_in_training(tmp_path):
    data = data_of(own(tmp_path / "own"))
    made = rows(data.val_dataset())
    np.testing.assert_array_equal(data.encode_images(data.names("validation")), made["image"])


def test_frozen_features(tmp_path):
    import keras

    pixels = keras.Input((8, 8, 3))
    keras.Model(pixels, keras.layers.AveragePooling2D(4)(pixels)).save(tmp_path / "means.keras")
    data = data_of(own(tmp_path / "own"), encoder=str(tmp_path / "means.keras"))
    assert (data.input_name, data.input_shape) == ("features", (4, 3))
    made = rows(data.val_dataset())
    assert made["features"].dtype == np.float32 and made["features"].shape == (3, 4, 3)
    numbers = [number(name) for name in data.names("validation")]
    np.testing.assert_allclose(made["features"][:, 2, 1], np.array(numbers) * 8 / 127.5 - 1, atol=1e-3)
    np.testing.assert_array_equal(
        data.encode_images(data.names("validation") * 15), np.tile(made["features"], (15, 1, 1))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "MobileNetV2"}, '`encoder` to be "small" or None for the sample'),
        ({"max_images": 2}, "`max_images` to be an int of at least 3"),
        ({"vocabulary_size": 0}, "`vocabulary_size` to be a positive int or None"),
        ({"max_length": 0}, "`max_length`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"val_fraction": 0.0}, "`val_fraction`"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "below 1 with test_fraction"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        CaptionData("sample", **arguments)


def test_the_default_encoders():
    assert CaptionData("sample").encoder.name == "small" and CaptionData().encoder.name == "InceptionV3"


# ---- scenes


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(400)


def test_scenes_differ_and_stay_the_same(scenes):
    assert make_scenes(400) == scenes and make_scenes(50) == scenes[:50] and make_scenes(50, seed=1) != scenes[:50]
    kinds = {frozenset((o.colour, o.shape, o.place) for o in scene.objects) for scene in scenes}
    assert len(kinds) == 400
    assert [len(scene.objects) for scene in scenes].count(1) == 20
    with pytest.raises(ValueError, match="at most 4320"):
        make_scenes(4321)


def test_each_word_means_one_object(scenes):
    for scene in scenes:
        for name in ("colour", "shape", "place"):
            assert len({getattr(thing, name) for thing in scene.objects}) == len(scene.objects)


def test_pictures_have_the_objects_where_the_masks_say(scenes):
    for scene in scenes[:60]:
        picture = scene.draw(64)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        empty = np.ones((64, 64), bool)
        for thing in scene.objects:
            mask = scene.mask(thing.shape, 64)
            np.testing.assert_array_equal(mask, scene.mask(thing.colour, 64))
            middle = np.argwhere(mask).mean(axis=0) / 64  # (row, column)
            assert np.abs(middle - (np.array(thing.place) + 0.5) / 3).max() < 0.07
            assert (picture[thing.coverage(64) == 1] == COLOURS[thing.colour]).all()
            assert 60 < mask.sum() < 0.05 * 64 * 64 * np.pi
            (box,) = scene.boxes(thing.shape, 64)
            left, top, right, bottom = box
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert mask[top].any() and mask[bottom - 1].any() and mask[:, left].any() and mask[:, right - 1].any()
            empty &= thing.coverage(64) == 0
        assert (picture[empty] == BACKGROUND).all() and empty.mean() > 0.8
        assert not scene.mask("above", 64).any() and scene.boxes("the", 64) == []


def test_shapes_are_what_they_are_called():
    """Areas in units of the radius: a disc, a square, a triangle, a cross."""
    x, y = np.meshgrid(np.linspace(-1.2, 1.2, 601), np.linspace(-1.2, 1.2, 601))
    area = {name: (inside(x, y) > 0).mean() * 2.4**2 for name, inside in SHAPES.items()}
    expected = {"circle": np.pi, "square": 1.76**2, "triangle": 1.85**2 / 2, "cross": 2 * 2 * 0.68 - 0.68**2}
    assert area == pytest.approx(expected, rel=0.02)


def test_captions_say_where_things_are(scenes):
    """Read back by a small parser of its own: what is named first lies where the words say."""
    direction = {"above": (-1, 0), "left": (0, -1), "right": (0, 1), "upper": (-1, 0)}
    for scene in scenes:
        things = {(thing.colour, thing.shape): thing for thing in scene.objects}
        for caption in scene.captions():
            words = caption.split()
            named = [pair for pair in itertools.pairwise(words) if pair in things]
            assert len(named) == len(things)
            if len(named) == 2:
                said = np.sum([direction[word] for word in words if word in direction], axis=0)
                first, second = (np.array(things[pair].place) for pair in named)
                assert said.tolist() == np.sign(first - second).tolist(), caption
                assert tuple(first) < tuple(second)  # in reading order
    assert set(RELATIONS) == {signs for signs in itertools.product((-1, 0, 1), repeat=2) if signs < (0, 0)}


def test_captions_of_one_object(scenes):
    where = {}
    for scene in scenes:
        if len(scene.objects) == 1:
            first = scene.captions()[0]
            where[scene.objects[0].place] = first.split(scene.objects[0].shape + " ")[1]
            assert scene.captions()[3] == f"{where[scene.objects[0].place]} is {scene.objects[0].phrase}"
    expected = {(0, 0): "in the top left", (0, 1): "at the top", (1, 0): "on the left", (1, 1): "in the middle",
                (2, 1): "at the bottom", (2, 2): "in the bottom right"}  # fmt: skip
    assert {place: text for place, text in where.items() if place in expected}.items() <= expected.items()
    assert len(set(where.values())) == len(where) >= 6


def test_the_sample(scenes):
    data = CaptionData("sample", max_images=60, batch_size=16)
    data.prepare_data()
    data.setup("fit")
    assert [len(data.names(split)) for split in ("train", "validation", "test")] == [48, 6, 6]
    assert len({name for split in ("train", "validation", "test") for name in data.names(split)}) == 60
    batch = batches(data.train_dataset())[0]
    assert batch["image"].shape == (16, 64, 64, 3) and data.train_dataset().size == 4 * 48
    for image, caption, index in zip(batch["image"], batch["caption"], batch["index"], strict=True):
        scene = data.scene("train", index)
        np.testing.assert_allclose(image, scene.draw(64) / 127.5 - 1.0, atol=1e-6)
        np.testing.assert_array_equal(data.image("train", index, 64), scene.draw(64))
        assert " ".join(data.vocabulary.decode(caption)) in scene.captions() == data.references("train")[index]
    assert set(data.state_dict()) == {"vocabulary", "caption_length", "input_shape", "encoder"}


def test_photos_have_no_scene(tmp_path):
    with pytest.raises(ValueError, match="photos have no known objects"):
        data_of(own(tmp_path / "own")).scene("train", 0)


# ---- the official files, from a server on this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.requests.append(self.path)


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A server with an archive of captions and 12 photos, each by itself and in an archive, as COCO's."""
    root = tmp_path / "server"
    (root / "train2014").mkdir(parents=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        server.requests, server.root = [], root
        address = f"http://127.0.0.1:{server.server_address[1]}"
        for i in range(12):
            grey(20 * i, (9, 8)).save(root / "train2014" / f"{i}.jpg")
        images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 8,
                   "coco_url": f"{address}/train2014/{i}.jpg"} for i in range(12)]  # fmt: skip
        captions = json.dumps(
            {"images": images, "annotations": [{"image_id": i, "caption": f"word{i}"} for i in range(12)]}
        )
        with zipfile.ZipFile(root / "captions.zip", "w") as archive:
            archive.writestr("annotations/captions_train2014.json", captions)
        with zipfile.ZipFile(root / "train2014.zip", "w") as archive:
            for i in range(12):
                archive.write(root / "train2014" / f"{i}.jpg", f"train2014/{i}.jpg")
        edition = [_download(address, root, "captions.zip", "annotations/captions_train2014.json"),
                   _download(address, root, "train2014.zip", "train2014")]  # fmt: skip
        monkeypatch.setitem(sources_module.EDITIONS, "download", tuple(edition))
        monkeypatch.setenv("LIGHTKERAS_DATA", "")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _download(address, root, archive, member):
    import hashlib

    content = (root / archive).read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return lk.data.Download(
        url=f"{address}/{archive}", size=len(content), checksum=digest, folder="coco", name=member, member=member
    )


def test_all_photos_come_as_an_archive(coco):
    photos = find_photos("download", None, None, False)
    assert len(photos) == 12 and all(photo.path.is_file() and photo.split is None for photo in photos)
    assert [photo.captions for photo in photos] == [(f"word{photo.path.stem}",) for photo in photos]
    assert coco.requests == ["/captions.zip", "/train2014.zip"]
    assert [p.path for p in find_photos("download", None, 5, False)] == [p.path for p in photos[:5]]
    assert len(coco.requests) == 2  # all are there: none is fetched again


def test_some_photos_come_one_by_one(coco):
    some = find_photos("download", None, 5, False)
    assert len(some) == 5 and len(coco.requests) == 6
    assert all((coco.root / "train2014" / p.path.name).read_bytes() == p.path.read_bytes() for p in some)
    more = find_photos("download", None, 7, False)
    assert list(more[:5]) == list(some) and len(coco.requests) == 8
    data = CaptionData("download", "small", image_size=8, max_images=7)
    data.prepare_data()
    data.setup("fit")
    assert len(coco.requests) == 8 and len(data.names("train")) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "HTTP Error 404"),
        (b"<html>busy</html>", "cannot identify image file"),
        ("cut", "image file is truncated"),
        ("other", r"to have \(9, 8\) pixels. Received: \(5, 5\)"),
    ],
)
def test_single_photos_that_do_not_come(coco, content, message):
    broken = find_photos("download", None, 5, False)[3].path
    file = coco.root / "train2014" / broken.name
    whole = file.read_bytes()
    broken.unlink()
    if content is None:
        file.unlink()
    elif content == "other":
        buffer = io.BytesIO()
        grey(0, (5, 5)).save(buffer, "jpeg")
        file.write_bytes(buffer.getvalue())
    else:
        file.write_bytes(whole[:-3] if content == "cut" else content)
    with pytest.raises(lk.data.DownloadError, match=message):
        find_photos("download", None, 5, False)
    assert not broken.exists() and len(list(broken.parent.iterdir())) == 4
    file.write_bytes(whole)
    find_photos("download", None, 5, False)
    assert broken.read_bytes() == whole


def test_an_archive_that_climbs_out_is_refused(coco, tmp_path, monkeypatch):
    with zipfile.ZipFile(coco.root / "train2014.zip", "a") as archive:
        archive.writestr("train2014/../../climbed.jpg", "x")
    captions, archive = sources_module.EDITIONS["download"]
    content = coco.root / "train2014.zip"
    address = archive.url.rpartition("/")[0]
    monkeypatch.setitem(
        sources_module.EDITIONS, "download", (captions, _download(address, coco.root, content.name, "train2014"))
    )
    with pytest.raises(lk.data.DownloadError, match="plain files in its folder"):
        find_photos("download", None, None, False)
    assert not list((tmp_path / "home").rglob("climbed.jpg"))


# ---- real photos


@real
def test_the_small_sets():
    counts = {}
    for source in ("coco", "flickr8k", "coco+flickr8k"):
        photos = find_photos(source, None, None, False)
        splits = [photo.split for photo in photos]
        counts[source] = [splits.count(split) for split in ("train", "validation", "test", None)]
    assert counts == {"coco": [0, 0, 0, 461], "flickr8k": [753, 113, 125, 0], "coco+flickr8k": [1214, 113, 125, 0]}


@real
def test_real_photos_and_captions(tmp_path):
    data = data_of("coco+flickr8k", max_images=80, image_size=16, features_dir=str(tmp_path), batch_size=8)
    assert {len(captions) for captions in data.references("test")} == {5}
    assert not any("coco" in name.split(os.sep)[-3] for split in ("validation", "test") for name in data.names(split))
    made = rows(data.train_dataset())
    assert len(made["caption"]) == 5 * len(data.names("train")) and np.ptp(made["image"][0]) > 0.5
    assert 10 < (made["caption"] != lk.text.PAD).sum(axis=1).mean() < 16


def test_an_example_is_a_photo_with_its_caption(tmp_path):
    data = data_of(own(tmp_path / "own"), batch_size=7)
    (batch,) = data.train_dataset().stream(steps=1, epochs=1).as_numpy_iterator()
    photo, caption = data.show_example({name: one[0] for name, one in batch.items()})
    assert photo.shape == (64, 64, 3) and photo.dtype == np.uint8
    assert abs(int(photo[32, 32, 0]) - shades(batch["image"])[0]) <= 2
    assert caption.split() == data.vocabulary.decode(batch["caption"][0])
