"""500 damaged inputs: each is read as ever, or ends in one sentence that names the file. Nothing is left behind."""

import hashlib
import io
import json
import os
import resource
import sys
import time
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from helpers.photos import grey
from PIL import Image

import lightkeras as lk
from lightkeras.data.download import fetch
from tasks.captioning import CaptionData
from tasks.dcgan import MNISTData
from tasks.text_generation import TextData
from tasks.translation import TranslationData

SECONDS, BYTES = 5.0, 1 << 28  # of one input: bounds, far above what it takes
SIZE = 8


def first_batches(data) -> None:
    data.prepare_data()
    data.setup("fit")
    for dataset in (data.train_dataset(), data.val_dataset()):
        next(iter(dataset.stream(epochs=1)))


def encoded(picture, name, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=name, **options)
    return file.getvalue()


def noise(seed) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8))


# ---- an input of each kind: its name and bytes, and a function that reads it, given the path


def text(folder):
    return (
        "text.txt",
        "O Freude, schöner Götterfunken — 歓喜!\r\n".encode() * 20,
        lambda path: first_batches(TextData(path, seq_len=8, batch_size=4)),
    )


def tsv(folder):
    lines = "".join(f"{name} eins.\t{name * 2} un.\r\n" for name in map(chr, range(0x61, 0x75)))
    return "pairs.tsv", lines.encode(), lambda path: first_batches(TranslationData(path, batch_size=4, min_count=1))


def aligned(folder):
    lines = "".join(f"{chr(0x4E00 + i)}ä{i}.\n" for i in range(20)).encode()
    (folder / "other.txt").write_bytes(lines)
    return (
        "lines.txt",
        lines,
        lambda path: first_batches(
            TranslationData(f"{path},{folder / 'other.txt'}", batch_size=4, min_count=1, vocabulary="word")
        ),
    )


def captions(name, content):
    def make(folder):
        (folder / "images").mkdir()
        for i in range(12):
            grey(8 * i).save(folder / "images" / f"{i}.png")
        return (
            name,
            content,
            lambda path: first_batches(
                CaptionData(path, encoder="small", image_size=8, features_dir=str(folder / "features"), batch_size=4)
            ),
        )

    make.__name__ = name
    return make


COCO = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(12)],
    "annotations": [{"image_id": i, "caption": f"a “photo” of {i}"} for i in range(12)],
}
KARPATHY = {
    "images": [
        {"filename": f"{i}.png", "filepath": "", "split": split, "sentences": [{"raw": f"the number {i}"}]}
        for i, split in enumerate(["train", "val", "test"] * 4)
    ]
}
TABLE = "".join(f'{i}.png,"a ""photo"", of {i}"\r\n' for i in range(12))
TOKEN = "".join(f"{i}.png#0\ta photo of {i}\n" for i in range(12))
PIPES = "image_name| comment_number| comment\n" + "".join(f"{i}.png| 0| a photo of {i}\n" for i in range(12))


def npz(folder):
    file = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 256, (30, SIZE, SIZE), np.uint8)
    np.savez_compressed(file, x_train=images, y_train=np.arange(30) % 3, x_test=images[:5], y_test=np.arange(5) % 3)
    return "images.npz", file.getvalue(), lambda path: first_batches(MNISTData(path, batch_size=4))


def image(name, photos, **options):
    """One damaged image among others: of DCGAN's folder, or of `photos` with captions."""

    def make(folder):
        place = folder / "images"
        place.mkdir()
        for i in range(11):
            noise(i).save(place / f"{i}.png")
        content = encoded(noise(11), name, **options)
        if not photos:
            return f"images/11.{name}", content, lambda path: first_batches(MNISTData(str(place), batch_size=4))
        (folder / "captions.csv").write_text(TABLE.replace("11.png", f"11.{name}"), encoding="utf-8")
        return (
            f"images/11.{name}",
            content,
            lambda path: first_batches(
                CaptionData(
                    str(folder), encoder="small", image_size=8, features_dir=str(folder / "features"), batch_size=4
                )
            ),
        )

    make.__name__ = f"{name} of {'captioning' if photos else 'dcgan'}"
    return make


def zipped(folder):
    file, member = io.BytesIO(), b"one\tuno\n" * 40
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/pairs.txt", member)
        archive.writestr("set/readme.txt", "nothing")
    checksum = f"sha256:{hashlib.sha256(member).hexdigest()}"
    download = lk.data.Download(
        url="http://localhost:9/set/a.zip", size=len(file.getvalue()), folder="set", name="pairs.txt",
        member="set/pairs.txt", member_checksum=checksum,
    )  # fmt: skip

    def read(path):
        assert fetch(download, folder).read_bytes() == member
        (folder / "set" / "pairs.txt").unlink()

    return "set/a.zip", file.getvalue(), read


EXIF = Image.Exif()
EXIF[0x0112] = 6
KINDS = [
    text, tsv, aligned, npz, zipped, captions("coco.json", json.dumps(COCO).encode()),
    captions("karpathy.json", json.dumps(KARPATHY).encode()), captions("captions.csv", TABLE.encode()),
    captions("Flickr8k.token.txt", TOKEN.encode()), captions("results.csv", PIPES.encode()),
    image("png", photos=False), image("jpeg", photos=False, exif=EXIF, quality=90), image("webp", photos=False),
    image("gif", photos=False), image("tiff", photos=False), image("bmp", photos=False), image("png", photos=True),
    image("jpeg", photos=True, exif=EXIF),
]  # fmt: skip
EACH = -(-500 // len(KINDS))


def damage(content: bytes, draw: np.random.Generator) -> bytes:
    """Cuts the content, flips bytes, changes line endings, repeats or fills a piece, or turns it into UTF-16."""
    data, place = bytearray(content), int(draw.integers(len(content)))
    match int(draw.integers(8)):
        case 0 | 1:
            return content[:place]
        case 2 | 3 | 4:
            for at in draw.integers(len(data), size=int(draw.integers(1, 9))):
                data[at] = int(draw.integers(256))
            return bytes(data)
        case 5:
            ending = [b"\r", b"\r\n", b"\n\r", b"\x0b", b"\x0c", b"\xe2\x80\xa8", b"\xc2\x85", b"\0"][draw.integers(8)]
            return content.replace(b"\r\n", b"\n").replace(b"\n", ending)
        case 6:
            piece = content[place : place + 40]
            return content[:place] + piece * int(draw.integers(2, 5)) + content[place:]
        case _:
            data[place : place + 8] = bytes([(0, 255)[draw.integers(2)]]) * 8
            return bytes(data) if draw.integers(4) else content.decode("latin-1").encode("utf-16")


def peak_memory() -> int:
    """Of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def files_in(folder) -> set[str]:
    found = {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}
    return {path for path in found if not path.endswith(".lock")}


def check(read, path, folder) -> str | None:
    """Reads the damaged input; returns the sentence, if it is one, and fails on anything else."""
    began = time.perf_counter()
    memory, sentence = peak_memory(), None
    try:
        read(str(path))
    except lk.utils.LightkerasError as error:
        sentence = str(error)
    assert time.perf_counter() - began < SECONDS and peak_memory() - memory < BYTES
    partial = [name for name in files_in(folder) if "partial" in name or "extracting" in name]
    assert not partial
    if sentence is not None:
        assert sentence.isprintable() and sentence.startswith("Expected ") and "Traceback" not in sentence
        assert path.name in sentence or str(folder) in sentence, sentence
    return sentence


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_a_damaged_input_is_read_or_refused_by_one_sentence(kind, tmp_path):
    draw = np.random.default_rng(sum(kind.__name__.encode()))
    name, content, read = kind(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    sentences = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, and those that count what is left out
        path.write_bytes(content)
        assert check(read, path, tmp_path) is None  # undamaged
        for _ in range(EACH):
            path.write_bytes(damage(content, draw))
            sentences.append(check(read, path, tmp_path))
    assert any(sentences)


def test_an_image_that_claims_to_be_huge_is_refused(tmp_path):
    """A small PNG file whose header asks for 10 GB."""
    for i in range(5):
        noise(i).save(tmp_path / f"{i}.png")
    content = bytearray(encoded(noise(5), "png"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "5.png").write_bytes(content)
    before = peak_memory()
    with pytest.raises(lk.utils.ArgumentError, match=r"5.png \(Image size \(3600000000 pixels\) exceeds limit"):
        MNISTData(str(tmp_path)).setup("fit")
    assert peak_memory() - before < BYTES


@pytest.mark.parametrize("read", [lk.data.open_image, lk.text.read_text])
def test_a_missing_file_is_told_in_one_sentence(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"Expected an? \w+ file. Received: .*nothing") as caught:
        read(tmp_path / "nothing")
    assert isinstance(caught.value, lk.utils.LightkerasError)


def test_an_empty_folder_and_links_to_nothing_are_told(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    for data in (MNISTData(str(tmp_path)), CaptionData(str(tmp_path), encoder="small")):
        with pytest.raises(lk.utils.ArgumentError, match=f"Expected `source` to be a folder with .*{tmp_path}"):
            data.prepare_data()
            data.setup("fit")
