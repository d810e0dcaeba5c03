"""A page as an app of Gradio: nothing in it asks for anything outside this machine."""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib import resources
from typing import Any

import markupsafe

from lightkeras.demo.fields import MOST_BYTES, Field, Number, Photo, Slider, Text
from lightkeras.demo.page import Page, Tool
from lightkeras.utils.checks import import_extra

AT_ONCE = 16  # people whose answers are computed; others wait
SECONDS_KEPT = 24 * 3600  # of an uploaded photo, in a demo that runs on
FONTS = ("DejaVu Sans", "sans-serif")
MONO = ("DejaVu Sans Mono", "monospace")


def import_gradio() -> Any:
    """Imports Gradio, which then sends no statistics and keeps files in a folder that is deleted as the process ends.

    Raises:
        ImportError: It is not installed; the message has the line that does.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = _uploads()
    return import_extra("demo", "gradio")


@functools.cache
def _uploads() -> str:
    """Makes a folder of this process: one that all users of the machine share would belong to the first of them."""
    folder = tempfile.mkdtemp(prefix="lightkeras-demo-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def make_app(page: Page) -> Any:
    """Makes the app of a page: an ASGI application.

    Raises:
        ImportError: Gradio is not installed.
    """
    gradio = import_gradio()
    api = import_extra("demo", "fastapi").FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    with gradio.Blocks(title=page.title, analytics_enabled=False, delete_cache=(3600, SECONDS_KEPT)) as blocks:
        gradio.HTML(_heading(page))
        for number, tool in enumerate(page.tools):
            _add_tool(gradio, blocks, page, tool, f"tool-{number}")
    blocks.queue(api_open=False)
    return gradio.mount_gradio_app(
        api, blocks, "/", footer_links=[], run_history=False, show_error=False, max_file_size=2 * MOST_BYTES,
        ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False, theme=_theme(gradio),
        css=_file("demo.css"), head=f"<script>{_file('demo.js')}</script>",
    )  # fmt: skip


def _heading(page: Page) -> str:
    return markupsafe.Markup('<h1 class="lk-title" dir="auto">{}</h1><p class="lk-about" dir="auto">{}</p>').format(
        page.title, page.about
    )


def _add_tool(gradio: Any, blocks: Any, page: Page, tool: Tool, name: str) -> None:
    """Adds a heading, the fields beside the answer (below it on a narrow screen), and what makes it answer."""
    note = markupsafe.Markup('<p class="lk-about" dir="auto">{}</p>').format(tool.note) if tool.note else ""
    gradio.HTML(markupsafe.Markup('<h2 class="lk-heading" dir="auto">{}</h2>{}').format(tool.title, note))
    with gradio.Row(elem_id=name, elem_classes="lk-tool"):
        with gradio.Column(scale=2, min_width=300):
            fields = [_make_field(gradio, field) for field in tool.fields.values()]
            button = gradio.Button(tool.button, variant="primary") if tool.button else None
        with gradio.Column(scale=3, min_width=300):
            answer = gradio.HTML("", elem_classes="lk-output", container=False)
    respond = {"fn": _responder(page, tool), "inputs": fields, "outputs": answer, "concurrency_limit": AT_ONCE,
               "show_progress": "minimal", "api_visibility": "private", "trigger_mode": "always_last"}  # fmt: skip
    if button is not None:
        submits = [field.submit for field in fields if hasattr(field, "submit")]
        gradio.on([button.click, *submits], **respond)
    else:
        gradio.on([blocks.load, *(field.change for field in fields)], **respond)


def _responder(page: Page, tool: Tool) -> Callable:
    def respond(*given):
        for shown in page.answer(tool, dict(zip(tool.fields, given, strict=True))):
            yield str(shown)

    return respond


def _make_field(gradio: Any, field: Field) -> Any:
    match field:
        case Text():
            return gradio.Textbox(field.value, label=field.label, lines=field.lines, max_length=field.most)
        case Slider():
            bounds = {"minimum": field.least, "maximum": field.most, "step": field.step}
            return gradio.Slider(value=field.value, label=field.label, buttons=[], **bounds)
        case Number():
            return gradio.Number(field.value, label=field.label)  # its range is the field's to check
        case Photo():
            return gradio.File(label=field.label, height=160)


def _theme(gradio: Any) -> Any:
    """Gradio's plainest theme, with fonts that the machine has, so that none is asked for, and darker buttons."""
    plain = gradio.themes.Base(font=FONTS, font_mono=MONO, primary_hue="blue")
    fills = {"": "*primary_600", "_dark": "*primary_600", "_hover": "*primary_700", "_hover_dark": "*primary_700"}
    return plain.set(**{f"button_primary_background_fill{state}": fill for state, fill in fills.items()})


@functools.cache
def _file(name: str) -> str:
    return resources.files("lightkeras.demo").joinpath(f"templates/{name}").read_text(encoding="utf-8")
