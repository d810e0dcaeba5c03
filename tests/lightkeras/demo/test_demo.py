"""`lightkeras demo`: what a page answers, without Gradio; and the tasks' pages as people use them, in a browser."""

import asyncio
import base64
import importlib.util
import io
import sys
import threading
import zlib

import numpy as np
import pytest
from helpers.browser import Browser
from helpers.demos import Shown, Visitor
from helpers.exporting import built
from helpers.toys import Classifier, PointsData, quiet
from markupsafe import Markup
from PIL import Image

import lightkeras as lk
from lightkeras.cli import commands
from lightkeras.cli.main import main
from lightkeras.demo import server
from lightkeras.demo.page import FAULT
from lightkeras.utils.checks import LightkerasError
from tasks.dcgan import figures

HOSTILE = "<script>alert(\"1\")</script> 'quoted' & ${alert(2)} {{value}} שלום <b>"


def tool(respond, button="Run", **fields):
    return lk.demo.Tool("Try", fields, respond, button)


def answers(one: lk.demo.Tool, **given) -> list[str]:
    return [str(part) for part in lk.demo.Page("Title", "About", [one]).answer(one, given)]


def sentence(one: lk.demo.Tool, **given) -> str:
    """What the page says of an error."""
    *_, last = answers(one, **given)
    assert last.startswith('<p class="lk-problem" role="alert">'), last
    return Markup(last).striptags()


# ---- answers


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        (lk.demo.Text("Prompt"), "a\n", "a\n"), (lk.demo.Text("Prompt", least=0), "", ""),
        (lk.demo.Slider("Size", 5, 1, 9), 3.0, 3), (lk.demo.Slider("Size", 5, 1, 9, 0.5), 3, 3.0),
        (lk.demo.Number("Seed"), 2**32 - 1, 2**32 - 1), (lk.demo.Number("Seed"), 7.0, 7),
    ],
)  # fmt: skip
def test_a_field_gives_a_value_of_its_type(field, given, value):
    read = field.read(given)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        (lk.demo.Text("Prompt"), "", "Expected “Prompt” to be a text of at least 1 character. Received: none"),
        (lk.demo.Text("Prompt"), None, "Received: none"),
        (lk.demo.Text("Prompt", most=3), "abcd", "at most 3 characters. Received: 4"),
        (lk.demo.Slider("Size", 5, 1, 9), 10, "Expected “Size” to be a number from 1 to 9. Received: 10"),
        (lk.demo.Slider("Size", 5, 1, 9), float("nan"), "Received: nan"),
        (lk.demo.Slider("Size", 5, 1, 9), True, "Received: True"),
        (lk.demo.Number("Seed"), -1, "a whole number from 0 to 4294967295. Received: -1"),
        (lk.demo.Number("Seed"), 0.5, "Received: 0.5"), (lk.demo.Number("Seed"), "<b>", "Received: <b>"),
        (lk.demo.Photo("Photo"), None, "Expected “Photo” to be a photo. Received: none. Drop one first"),
    ],
)  # fmt: skip
def test_what_a_field_does_not_allow_is_a_sentence(field, given, expected):
    assert expected in Markup(sentence(tool(lambda x: "unused", x=field), x=given)).unescape()


def photo(size=(40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_photo_is_upright_and_other_files_are_sentences(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo().save(tmp_path / "photo.jpg", exif=exif)
    field = lk.demo.Photo("Photo")
    assert field.read(str(tmp_path / "photo.jpg")).size == (30, 40)
    (tmp_path / "notes.jpg").write_text("no photo")
    said = sentence(tool(lambda x: "unused", x=field), x=str(tmp_path / "notes.jpg"))
    assert "to be a photo. Received: cannot identify image file 'notes.jpg'" in Markup(said).unescape()
    small = lk.demo.Photo("Photo", most=100)
    said = sentence(tool(lambda x: "unused", x=small), x=str(tmp_path / "photo.jpg"))
    assert "a file of at most 0 MB. Received: 0.0 MB" in said
    header = b"\0\1\0\0\0\1\0\0\x08\2\0\0\0"  # 65,536 x 65,536 pixels
    parts = [len(one).to_bytes(4) + kind + one + zlib.crc32(kind + one).to_bytes(4)
             for kind, one in ((b"IHDR", header), (b"IDAT", b""))]  # fmt: skip
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert "exceeds limit" in sentence(tool(lambda x: "unused", x=field), x=str(tmp_path / "huge.png"))


def test_texts_are_escaped_and_markup_is_not():
    (shown,) = answers(tool(lambda x: x, x=lk.demo.Text("Text")), x=HOSTILE)
    assert "<script" not in shown and "<b>" not in shown and Markup(shown).unescape().count(HOSTILE) == 1
    assert shown.startswith('<pre class="lk-text" dir="auto">')
    assert answers(tool(lambda: Markup("<b>{}</b>").format("<i>"))) == ["<b>&lt;i&gt;</b>"]
    found = lk.demo.attention([HOSTILE], ['"', "<b>"], [[0.25], [1.0]], HOSTILE)
    assert "<script" not in found and 'data-weights="0.250 1.000"' in found and 'data-weights="1.000"' in found
    assert "<script" not in lk.demo.tiles([(lk.demo.picture(np.zeros((2, 2), np.uint8), HOSTILE), HOSTILE)], HOSTILE)


def test_an_error_follows_what_was_shown_and_a_fault_is_in_the_terminal(capsys):
    def write(error):
        yield "half"
        raise error

    *_, last = answers(tool(lambda: write(LightkerasError("Expected <more>."))))
    assert last == f'{lk.demo.text("half")}<p class="lk-problem" role="alert">Expected &lt;more&gt;.</p>'
    assert capsys.readouterr().err == ""
    assert FAULT in answers(tool(lambda: write(KeyError("a secret"))))[-1]
    assert "KeyError: 'a secret'" in capsys.readouterr().err


def test_two_people_at_once_each_have_their_answer():
    def count(name, most):
        text = ""
        for number in range(most):
            text += f"{name}{number} "
            yield text

    one = tool(count, name=lk.demo.Text("Name"), most=lk.demo.Number("Most"))
    page = lk.demo.Page("Title", "", [one])
    first, second = (page.answer(one, {"name": name, "most": 3}) for name in "ab")
    turns = [next(first), next(second), next(first), next(second), *first, *second]
    assert turns[-2:] == [lk.demo.text("a0 a1 a2 "), lk.demo.text("b0 b1 b2 ")]


# ---- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the runs of `Shown`, with one run."""
    root = tmp_path_factory.mktemp("runs")
    trainer = quiet(str(root), max_steps=2, run_eagerly=True, limit_val_batches=0)
    trainer.fit(Shown(), PointsData())
    return root, trainer.run_dir


@pytest.mark.parametrize("which", ["last", "RUN", None])
def test_the_command_serves_the_page_of_a_users_own_task(run, which, monkeypatch):
    served = []
    monkeypatch.setattr(commands, "serve", lambda page, host, opened: served.append((page, opened.getsockname())))
    monkeypatch.setattr(commands, "import_gradio", lambda: None)
    chosen = [] if which is None else ["--ckpt_path", str(run[1]) if which == "RUN" else which]
    assert main(["demo", "helpers.demos.Shown", *chosen, "--trainer.default_root_dir", str(run[0]), "--port", "0"]) == 0
    ((page, (host, port)),) = served
    assert page.title == "Points" and host == "127.0.0.1" and port > 0
    (shown,) = page.answer(page.tools[0], {"x": 1.0})
    task = Shown.load_from_checkpoint(run[1])
    assert shown == lk.demo.text(f"class {int(np.argmax(task.network(np.ones((1, 4)))))}")


def error_of(capsys, *arguments) -> str:
    assert main(["demo", *arguments]) == 1
    return capsys.readouterr().err


def test_without_gradio_the_error_is_the_line_that_installs_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "`gradio` to be installed: pip install 'lightkeras[demo]'" in error_of(capsys, "text_generation")
    page = lk.demo.Page("Title", "", [tool(lambda: "")])
    with pytest.raises(ImportError, match=r"lightkeras\[demo\]"):
        server.make_server(page, "127.0.0.1")


def test_a_task_without_a_page_and_a_port_in_use_are_named(capsys, monkeypatch):
    monkeypatch.setattr(commands, "import_gradio", lambda: None)
    assert "Expected Classifier to have a method `demo()`" in error_of(capsys, "helpers.toys.Classifier")
    with pytest.raises(NotImplementedError, match=r"`lk\.demo\.Page`"):
        Classifier().demo()
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        said = error_of(capsys, "text_generation", "--port", str(port))
        assert f"Expected 127.0.0.1:{port} to be free for the demo. Received: Address already in use" in said
    assert "--port" in error_of(capsys, "text_generation", "--port", "70000")
    assert "Expected 203.0.113.7:1" in error_of(capsys, "text_generation", "--host", "203.0.113.7", "--port", "1")


@pytest.mark.parametrize(("host", "status"), [(b"localhost:1", 200), (b"127.0.0.1", 200), (b"evil.example", 421)])
def test_a_name_that_is_bound_to_this_machine_elsewhere_is_refused(host, status):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", host)]}
    asyncio.run(server.Guarded(app, "127.0.0.1")(scope, None, send))
    assert sent[0]["status"] == status
    if status == 200:
        assert b"default-src 'self'" in dict(sent[0]["headers"])[b"content-security-policy"]


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs the packages of the extra `demo`")
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def serve():
    """`serve(page)` serves in a thread, and returns the address."""
    running = []

    def start(page) -> str:
        opened = server.listen("127.0.0.1", 0)
        made = server.make_server(page, "127.0.0.1")
        thread = threading.Thread(target=made.run, kwargs={"sockets": [opened]})
        thread.start()
        running.append((made, thread, opened))
        return f"http://127.0.0.1:{opened.getsockname()[1]}/"

    yield start
    for made, thread, opened in running:
        made.should_exit = True
        thread.join(30)
        opened.close()


@pytest.fixture
def visit(browser, serve):
    """`visit(name)`: (the task, a visitor of its page)."""

    def start(name):
        task = built(name)
        return task, Visitor(browser, serve(task.demo()))

    return start


MARKUP = "<script>alert(1)</script> <b>{{value}} 'a'"
LOOKS = [(1280, "light"), (400, "dark")]
PROMPT = "#tool-0 textarea"
SEEN = "document.querySelectorAll('[data-kind=seen] .lk-word')"


def test_text_is_written_as_it_is_generated(visit):
    task, visitor = visit("text_generation")
    beginning = task.demo().tools[0].fields["prompt"].value
    for width, theme in LOOKS:
        visitor.open(width, theme)
        visitor.press()
        whole = task.generate(beginning, 500, 0.8)[0]
        visitor.browser.wait(f"return document.querySelector('.lk-text')?.textContent.length === {len(whole)}")
        assert visitor.text(".lk-text") == whole and visitor.text(".lk-given") == beginning
        visitor.put(PROMPT, MARKUP)
        visitor.press()
        visitor.browser.wait("return document.querySelector('.lk-given')?.textContent.includes('script')")
        assert visitor.text(".lk-given") == beginning + MARKUP
        visitor.put(PROMPT, "☃ <b>")
        visitor.press()
        assert visitor.text(".lk-problem").endswith("1 unknown ('☃'), the first '☃' at position 46")
        visitor.look()


def test_images_are_drawn_as_sliders_move(visit):
    task, visitor = visit("dcgan")
    for width, theme in LOOKS:
        visitor.open(width, theme)
        visitor.browser.wait("return document.querySelectorAll('.lk-sharp').length === 4")
        np.testing.assert_array_equal(pixels(visitor, 0), figures.make_grid(task.generate(64, 0))[..., 0])
        np.testing.assert_array_equal(pixels(visitor, 3), task.generate(1, 0)[0, ..., 0])
        before = visitor.browser.run("return document.querySelectorAll('.lk-sharp')[3].src")
        visitor.put("#tool-2 input[type=range][aria-label*='Direction 1']", "\ue010")  # the end key
        visitor.browser.wait(f"return document.querySelectorAll('.lk-sharp')[3].src !== '{before}'")
        visitor.look()


def pixels(visitor, number) -> np.ndarray:
    source = visitor.browser.run(f"return document.querySelectorAll('.lk-sharp')[{number}].src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_a_word_that_is_pointed_at_lights_what_it_looked_at(visit):
    task, visitor = visit("translation")
    source = "el perro"
    ((best,),) = task.search([source])
    for width, theme in LOOKS:
        visitor.open(width, theme)
        visitor.put(PROMPT, source)
        visitor.press()
        assert visitor.text(".lk-answer") == (best.text or "(an empty translation)")
        words = visitor.browser.driver.find_elements("css selector", "[data-kind=looks] .lk-word")
        assert len(words) == len(best.labels)
        lit = f"return [...{SEEN}].map(one => one.style.getPropertyValue('--w'))"
        visitor.browser.run("arguments[0].focus()", words[0])
        np.testing.assert_allclose([float(one) for one in visitor.browser.run(lit)], best.attention[0], atol=6e-4)
        visitor.look()


def test_a_dropped_photo_is_described_word_by_word(visit, tmp_path):
    task, visitor = visit("captioning")
    photo().save(tmp_path / "photo.png")
    (tmp_path / "notes.png").write_text("no photo")
    ((best,),) = task.search([tmp_path / "photo.png"])
    for width, theme in LOOKS:
        visitor.open(width, theme)
        visitor.put("input[type=file]", str(tmp_path / "photo.png"))
        visitor.browser.wait("return document.querySelector('[aria-label=\"photo.png\"]') !== null")
        visitor.press()
        assert visitor.text(".lk-answer") == (best.text or "(an empty caption)")
        assert visitor.browser.run("return document.querySelectorAll('.lk-tile').length") == len(best.words) + 1
        visitor.look()
