"""Folders of small photos with captions."""

import json

from PIL import Image


def grey(shade, size=(8, 8)):
    return Image.new("RGB", size, (shade,) * 3)


def own(folder, count=30, splits=None, beside="images"):
    """A folder with photos 0.png, 1.png, ..., of the shades 0, 8, ..., with two captions each."""
    images = folder / beside
    images.mkdir(parents=True)
    for i in range(count):
        grey(8 * i).save(images / f"{i}.png")
    document = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(count)],
        "annotations": [
            {"image_id": i, "caption": text}
            for i in range(count)
            for text in (f"A photo of number{i}.", f"It's number{i}, in grey!")
        ],
    }
    for image, split in zip(document["images"], splits or [None] * count, strict=True):
        if split:
            image["split"] = split
    (folder / "captions.json").write_text(json.dumps(document), encoding="utf-8")
    return str(folder)
