"""What a run will be, before it is started: data, examples, model, and how long it will take."""

from lightkeras.preview.preview import Preview, print_preview, show

__all__ = ["Preview", "print_preview", "show"]
