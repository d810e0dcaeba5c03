"""Downloads and archives, against a server on this machine; nothing leaves it."""

import contextlib
import hashlib
import http.server
import io
import pathlib
import socket
import stat
import threading
import time
import zipfile

import pytest

from lightkeras.data import download as download_module
from lightkeras.data.download import Download, DownloadError, fetch, find_data

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `requests` holds the (path, Range) of each request; the rest makes it misbehave."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.requests = []
        self.cut_after = None  # bytes sent before the connection is closed
        self.ranges = True
        self.wrong_range = False
        self.length = True
        self.pause = 0.0  # seconds before the body

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers["Range"]
        server.requests.append((self.path, wanted))
        body = server.files.get(self.path.lstrip("/").partition("?")[0])
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            said = 0 if server.wrong_range else start
            self.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
        if server.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        time.sleep(server.pause)
        with contextlib.suppress(OSError):  # the client may be gone
            self.wfile.write(body[start:][: server.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv("LIGHTKERAS_DATA", raising=False)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def checksum(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def plain(server, data=CONTENT, **changes):
    """A file `a.bin` that the server has, and its description."""
    server.files["a.bin"] = data
    known = {"size": len(data), "checksum": checksum(data)}
    return Download(url=server.url("a.bin"), folder="set", name="a.bin", **known | changes)


def packed(server, archive, member, name, **changes):
    """An archive that the server has, and the description of its member."""
    server.files["a.archive"] = archive
    known = {"size": len(archive), "checksum": checksum(archive), "member": member, "name": name}
    return Download(url=server.url("a.archive?x=1"), folder="set", **known | changes)


def make_zip(files, links=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def visible(folder):
    """The names of all files under `folder`, hidden ones (locks) left out; staging folders are not hidden."""
    files = sorted(str(p.relative_to(folder)) for p in pathlib.Path(folder).rglob("*") if p.is_file())
    return [name for name in files if not name.endswith(".lock")]


# Download


def test_downloads_once_then_takes_the_cached_file(server, cache):
    download = plain(server)
    path = fetch(download, cache)
    assert path == cache / "set" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert fetch(download, cache) == path
    assert server.requests == [("/a.bin", None)]
    assert visible(cache) == ["set/a.bin"]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_every_kind_of_checksum(server, cache, algorithm):
    assert fetch(plain(server, checksum=checksum(CONTENT, algorithm)), cache).read_bytes() == CONTENT


def test_default_cache_is_that_of_keras(server, tmp_path, monkeypatch):
    assert fetch(plain(server)) == tmp_path / "home" / ".keras" / "datasets" / "set" / "a.bin"
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "other"))
    assert fetch(plain(server)) == tmp_path / "other" / "datasets" / "set" / "a.bin"


def test_a_server_that_does_not_tell_the_length(server, cache):
    server.length = False
    assert fetch(plain(server), cache).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False])
def test_a_cut_connection_says_what_arrived_and_is_resumed(server, cache, length):
    download = plain(server)
    server.cut_after, server.length = 300_000, length
    with pytest.raises(DownloadError, match=r"Expected 1024000 bytes from .*a\.bin\. Received: 300000 bytes"):
        fetch(download, cache)
    assert visible(cache) == ["set/a.bin.partial"]
    server.cut_after = None
    assert fetch(download, cache).read_bytes() == CONTENT
    assert server.requests == [("/a.bin", None), ("/a.bin", "bytes=300000-")]
    assert visible(cache) == ["set/a.bin"]


def test_starts_again_where_the_server_cannot_resume(server, cache):
    download = plain(server)
    server.cut_after, server.ranges = 300_000, False
    with pytest.raises(DownloadError, match="Received: 300000 bytes"):
        fetch(download, cache)
    server.cut_after = None
    assert fetch(download, cache).read_bytes() == CONTENT


def test_rejects_an_answer_that_resumes_elsewhere(server, cache):
    download = plain(server)
    server.wrong_range = True
    partial = cache / "set" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match=r"to resume at byte 1000\. Received: 'bytes 0-"):
        fetch(download, cache)
    assert partial.read_bytes() == CONTENT[:1000]


def test_a_whole_partial_file_is_verified_without_the_server(server, cache):
    partial = cache / "set" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT)
    assert fetch(plain(server), cache).read_bytes() == CONTENT
    assert server.requests == []


def test_a_partial_file_that_is_too_long_is_started_again(server, cache):
    partial = cache / "set" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT + b"x")
    assert fetch(plain(server), cache).read_bytes() == CONTENT


def test_a_server_that_stops_sending(server, cache, monkeypatch):
    monkeypatch.setattr(download_module, "_TIMEOUT", 0.3)
    server.pause = 0.6
    with pytest.raises(DownloadError, match=r"Received: 0 bytes \(TimeoutError"):
        fetch(plain(server), cache)


def test_wrong_bytes_are_rejected_and_removed(server, cache):
    download = plain(server)
    wrong = b"x" + CONTENT[1:]
    server.files["a.bin"] = wrong
    with pytest.raises(DownloadError) as error:
        fetch(download, cache)
    expected, received = checksum(CONTENT), checksum(wrong)
    assert f"to have the checksum {expected}. Received: {received}" in str(error.value)
    assert visible(cache) == []


def test_wrong_bytes_in_a_partial_file_are_rejected_and_removed(server, cache):
    partial = cache / "set" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="checksum"):
        fetch(plain(server), cache)
    assert visible(cache) == []


def test_a_file_of_another_size_is_rejected_before_it_is_received(server, cache):
    download = plain(server)
    server.files["a.bin"] = CONTENT[:-1]
    with pytest.raises(DownloadError, match=r"to have 1024000 bytes\. Received: 1023999 bytes"):
        fetch(download, cache)
    assert visible(cache) == []


def test_a_cached_file_of_the_wrong_size_is_named_and_kept(server, cache):
    path = cache / "set" / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"short")
    with pytest.raises(DownloadError) as error:
        fetch(plain(server), cache)
    assert f"Expected {path} to have 1024000 bytes. Received: 5 bytes. Delete this file" in str(error.value)
    assert path.read_bytes() == b"short"
    assert server.requests == []


def test_offline_errors_name_the_remedies(cache):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.bin"  # bound, but nobody listens
        download = Download(url=url, folder="set", name="a.bin", size=1, checksum=checksum(b"x"))
        with pytest.raises(DownloadError) as error:
            fetch(download, cache)
    for part in (url, "refused", str(cache / "set" / "a.bin"), "LIGHTKERAS_DATA", 'source="sample"'):
        assert part in str(error.value)


def test_a_missing_file_on_the_server(server, cache):
    download = plain(server)
    server.files.clear()
    with pytest.raises(DownloadError, match="HTTP Error 404"):
        fetch(download, cache)


def test_two_at_a_time_download_once(server, cache, capsys):
    download = plain(server)
    server.pause = 0.2
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(download, cache))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cache / "set" / "a.bin"] * 2
    assert results[0].read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert "Waiting for another process" in capsys.readouterr().out


def test_one_plain_line_where_there_is_no_terminal(server, cache, capsys):
    download = plain(server)
    fetch(download, cache)
    fetch(download, cache)
    printed = capsys.readouterr()
    assert printed.out == f"Downloading {download.url} (1024000 bytes) into {cache / 'set'}\n"
    assert printed.err == ""


def test_a_progress_bar_in_a_terminal(server, cache, capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    fetch(plain(server), cache)
    out = capsys.readouterr().out
    assert "a.bin" in out
    assert "1.0/1.0 MB" in out
    assert "Downloading" not in out


# Where data is looked for


def test_own_data_comes_first_and_need_not_be_official(server, cache, tmp_path, monkeypatch):
    download = plain(server)
    fetch(download, cache)
    own = tmp_path / "own" / "set" / "a.bin"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    monkeypatch.setenv("LIGHTKERAS_DATA", str(tmp_path / "own"))
    assert fetch(download, cache) == own


def test_without_an_own_file_the_cache_is_used(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTKERAS_DATA", str(tmp_path))
    assert fetch(plain(server), cache) == cache / "set" / "a.bin"


def test_own_data_folder_must_exist(server, cache, monkeypatch):
    monkeypatch.setenv("LIGHTKERAS_DATA", "/no/such/folder")
    with pytest.raises(ValueError, match=r"Expected `LIGHTKERAS_DATA` to be an existing folder\. Received: .*no/such"):
        fetch(plain(server), cache)


def test_find_data(server, tmp_path, monkeypatch):
    download = plain(server)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert find_data("download", download) == tmp_path / "datasets" / "set" / "a.bin"
    assert find_data(tmp_path, download) == tmp_path
    assert find_data(str(tmp_path / "datasets"), download) == tmp_path / "datasets"


def test_find_data_names_a_missing_file(server):
    with pytest.raises(ValueError) as error:
        find_data("/no/such/file", plain(server))
    assert str(error.value) == (
        'Expected `source` to be "download", "sample", or an existing file or folder. '
        "Received: source='/no/such/file'"
    )


# Archives

FILES = {"top/a.txt": b"A", "top/sub/b.txt": b"B", "other/c.txt": b"C"}


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("top/a.txt", ["out"]),
        ("top", ["out/a.txt", "out/sub/b.txt"]),
        (".", ["out/other/c.txt", "out/top/a.txt", "out/top/sub/b.txt"]),
    ],
)
def test_extracts_the_member_alone(server, cache, member, expected):
    path = fetch(packed(server, make_zip(FILES), member, "out"), cache)
    assert path == cache / "set" / "out"
    assert visible(cache / "set") == ["a.archive", *expected]
    assert (path / "sub/b.txt" if member == "top" else path).exists()


def test_two_members_of_one_archive_need_one_download(server, cache):
    archive = make_zip(FILES)
    first = fetch(packed(server, archive, "top/a.txt", "texts/first.txt"), cache)
    second = fetch(packed(server, archive, "other/c.txt", "texts/second.txt"), cache)
    assert (first.read_bytes(), second.read_bytes()) == (b"A", b"C")
    assert len(server.requests) == 1


def test_the_archive_is_not_needed_once_extracted(server, cache):
    download = packed(server, make_zip(FILES), "top/a.txt", "a.txt")
    fetch(download, cache)
    (cache / "set" / "a.archive").unlink()
    assert fetch(download, cache).read_bytes() == b"A"
    assert len(server.requests) == 1


def test_the_rest_of_a_killed_extraction_is_replaced(server, cache):
    left = cache / "set" / ".out.extracting" / "top"
    left.mkdir(parents=True)
    (left / "half.txt").write_bytes(b"?")
    fetch(packed(server, make_zip(FILES), "top", "out"), cache)
    assert visible(cache / "set") == ["a.archive", "out/a.txt", "out/sub/b.txt"]


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "C:\\evil", "top\\..\\..\\evil"])
def test_paths_that_climb_out_are_rejected(server, cache, name):
    archive = make_zip({"top/a.txt": b"A", name: b"E"})
    with pytest.raises(DownloadError, match=r"Expected .*a\.archive to hold plain files in its folder"):
        fetch(packed(server, archive, "top", "out"), cache)
    assert visible(cache.parent) == ["cache/set/a.archive"]


def test_links_are_rejected(server, cache):
    archive = make_zip({"top/link": b"/etc"}, links=["top/link"])
    with pytest.raises(DownloadError, match="Received: 'top/link'"):
        fetch(packed(server, archive, "top", "out"), cache)
    assert visible(cache) == ["set/a.archive"]


def test_a_missing_member_is_named_with_the_members(server, cache):
    with pytest.raises(DownloadError, match=r"to contain no\.txt\. Received: top/a\.txt, top/sub/b\.txt, other/c"):
        fetch(packed(server, make_zip(FILES), "no.txt", "out"), cache)


def test_a_member_checksum_can_replace_the_archives(server, cache):
    known = {"checksum": None, "member_checksum": checksum(b"A")}
    assert fetch(packed(server, make_zip(FILES), "top/a.txt", "a.txt", **known), cache).read_bytes() == b"A"
    with pytest.raises(DownloadError, match=r"top/sub/b\.txt in .* to have the checksum .*, delete .*a\.archive"):
        fetch(packed(server, make_zip(FILES), "top/sub/b.txt", "b.txt", **known), cache)
    assert visible(cache / "set") == ["a.archive", "a.txt"]


@pytest.mark.parametrize("damage", [lambda data: b"x" * len(data), lambda data: data.replace(b"BBBB", b"BBBX")])
def test_a_damaged_archive_is_named(server, cache, damage):
    archive = damage(make_zip({"a.txt": b"A", "b.txt": b"BBBB"}))
    with pytest.raises(DownloadError, match=r"a\.archive to be a zip archive\. Received: .*delete it"):
        fetch(packed(server, archive, ".", "out"), cache)
    assert visible(cache) == ["set/a.archive"]


def test_a_cached_archive_of_the_wrong_size_is_named(server, cache):
    archive = cache / "set" / "a.archive"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"short")
    with pytest.raises(DownloadError, match=r"a\.archive to have .* Received: 5 bytes\. Delete this file"):
        fetch(packed(server, make_zip(FILES), "top", "out"), cache)


# Descriptions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "`size` to be a positive int"),
        ({"checksum": None}, "Expected `checksum` to be given"),
        ({"checksum": "sha256:123"}, "Expected `checksum` to be"),
        ({"checksum": "crc:" + "0" * 64}, "Expected `checksum` to be"),
        ({"checksum": "md5:" + "G" * 32}, "Expected `checksum` to be"),
        ({"member_checksum": "md5:" + "0" * 32}, "Expected `member` to be given with `member_checksum`"),
    ],
)
def test_descriptions_are_checked(server, changes, message):
    with pytest.raises(ValueError, match=message):
        plain(server, **changes)
