"""The demo of a trained task: a web page to try it. What a page is made of; `server.py` serves it, with Gradio."""

from lightkeras.demo.fields import Number, Photo, Slider, Text
from lightkeras.demo.markup import attention, picture, stack, text, tiles
from lightkeras.demo.page import Page, Tool

__all__ = ["Number", "Page", "Photo", "Slider", "Text", "Tool", "attention", "picture", "stack", "text", "tiles"]
