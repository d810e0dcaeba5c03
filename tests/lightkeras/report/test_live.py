"""`lightkeras watch` beside a real training, in a browser; what a server may not do; the pages as people see them."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading

import pytest
from helpers import run_folders as folders
from helpers.browser import Browser
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.cli.main import main
from lightkeras.report import make_report
from lightkeras.report.watch import LivePage, make_server


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path):
    return folders.write_run(tmp_path / "classifier" / "one")


@pytest.fixture
def server(run):
    """A server of the run in a thread."""
    made = make_server(run, "127.0.0.1", 0)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def ask(server, path: str, host: str | None = None) -> tuple[int, str, dict]:
    port = server.server_address[1]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{port}" if host is None else host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())


class Watched(lk.Callback):
    """Starts `watch` in a process of its own after the first epoch, and looks at its page there and after the third."""

    def __init__(self, browser):
        super().__init__()
        self.browser, self.process, self.titles, self.charts = browser, None, [], []

    order = 99  # after the loggers

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            command = [sys.executable, "-m", "lightkeras", "watch", str(self.run.folder), "--port", "0"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self.process.stdout
            self.url = self.process.stdout.readline().split(": ")[1].split()[0]
            self.browser.show(self.url)
            self.browser.run("window.before = 'loaded'; document.querySelector('#configuration summary').click()")
            self.look()
        if epoch == 2:
            self.browser.wait("return document.querySelector('#head .line').textContent.includes('12 updates')")
            self.look()

    def look(self):
        self.titles.append(self.browser.run("return document.title"))
        self.charts.append(self.browser.run("return document.querySelectorAll('#curves .chart').length"))


def test_watch_shows_a_training_while_it_goes_on(root, browser):
    browser.asked(), browser.complaints()
    watched = Watched(browser)
    trainer = quiet(root, max_epochs=4, limit_train_batches=4, run_eagerly=True, callbacks=[watched])
    trainer.fit(Classifier(), PointsData())
    try:
        assert trainer.run_dir and all(title.endswith(": running") for title in watched.titles)
        assert watched.charts[1] >= 3  # loss, accuracy, learning rate
        browser.wait("return document.title.endsWith(': finished')")
        assert "16 updates in 4 epochs" in browser.run("return document.querySelector('#head .line').textContent")
        assert browser.run("return window.before") == "loaded"  # the page was not loaded again
        assert browser.run("return document.querySelector('#configuration details').open")
        assert not browser.complaints()
        asked = browser.asked()
        assert len(asked) > 3 and all(url.startswith(watched.url) for url in asked), asked
    finally:
        watched.process.send_signal(signal.SIGINT)
        rest, _ = watched.process.communicate(timeout=60)
    assert watched.process.returncode == 0 and "Traceback" not in rest
    files = {path.name for path in trainer.run_dir.iterdir()}
    assert files >= {"report.html", "timeline.jsonl"} and ".run.lock" not in files


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_overlaps_and_nothing_is_hard_to_read(run, tmp_path, browser, theme):
    path = tmp_path / "page.html"
    path.write_text(make_report(run), encoding="utf-8")
    browser.asked(), browser.complaints()
    for width in (1280, 400):
        browser.show(path.as_uri(), width, theme)
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.run(OVERLAPS) == []
        assert browser.run("return [...document.images].every(one => one.naturalWidth > 0)")
    assert browser.findings() == []
    assert browser.complaints() == [] and set(browser.asked()) == {path.as_uri()}
    assert "alert" in browser.run("return document.querySelector('#samples pre').textContent")
    assert browser.run("return document.querySelector('#samples pre').dir") == "auto"


OVERLAPS = """
const found = [];
for (const plot of document.querySelectorAll('.plot')) {
  const boxes = [...plot.querySelectorAll('.ends > span, .ys > span, .xs > span')].map(
    one => [one.textContent, one.getBoundingClientRect(), one.scrollWidth > one.clientWidth + 1]);
  for (let i = 0; i < boxes.length; i++) {
    if (boxes[i][2]) found.push('cut: ' + boxes[i][0]);
    for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
        found.push(boxes[i][0] + ' over ' + boxes[j][0]);
    }
  }
}
return found;
"""


@pytest.mark.parametrize(
    "path",
    [
        "/../config.yaml", "/%2e%2e/config.yaml", "/config.yaml", "/samples/epoch_0001.txt",
        "/section/../../config.yaml",
        "/section/..%2fconfig.yaml", "//etc/passwd", "/section/%00", "/section/", "/report.html",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(server, path):
    status, text, _ = ask(server, path)
    assert (status, text) == (404, "Not found")


def test_a_link_leads_nowhere(run, tmp_path, server):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    (run / "samples/epoch_0009.txt").symlink_to(secret)
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to(secret)
    status, text, _ = ask(server, "/")
    assert status == 200 and "a secret" not in text


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:1", 200), ("[::1]:1", 200), ("192.168.0.7", 200), ("evil.example", 421),
     ("127.0.0.1.evil.example", 421),
     ("", 421), ("[", 421)],
)  # fmt: skip
def test_a_name_that_is_bound_to_this_machine_elsewhere_is_refused(server, host, status):
    assert ask(server, "/state.json", host)[0] == status


def test_the_state_is_small_and_names_what_changed(run, server):
    status, text, headers = ask(server, "/state.json")
    before = json.loads(text)
    assert status == 200 and len(text) < 1000 and before["title"] == "classifier / one: finished"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    server.live = LivePage(run)  # as old as can be
    (run / "samples/epoch_0009.txt").write_text("new\n")
    after = json.loads(ask(server, "/state.json")[1])
    assert [name for name in before["sections"] if before["sections"][name] != after["sections"][name]] == ["samples"]
    assert "new" in ask(server, "/section/samples")[1]


def test_two_watch_a_run_and_a_port_in_use_is_named(run, server, capsys):
    port = server.server_address[1]
    second = make_server(run, "127.0.0.1", 0)
    second.server_close()
    assert second.server_address[1] != port
    assert main(["watch", str(run), "--port", str(port)]) == 1
    assert (
        f"Expected 127.0.0.1:{port} to be free for the live page. Received: Address already" in capsys.readouterr().err
    )
    assert main(["watch", str(run), "--port", "70000"]) == 1
    assert "--port" in capsys.readouterr().err


def test_only_this_machine_is_served(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.socket.family == socket.AF_INET
