"""Messages go through the logger "lightkeras"."""

import contextlib
import io
import logging
import subprocess
import sys

import pytest

from lightkeras.utils.messages import PlainLines, logger


@pytest.fixture(autouse=True)
def as_imported():
    """Restores the logger."""
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def test_messages_are_plain_lines(capsys):
    logger.info("Saved %d", 3)
    logger.debug("unseen")
    logger.warning("Careful")
    assert capsys.readouterr() == ("Saved 3\n", "Careful\n")


def test_stdout_may_be_redirected_after_the_import():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        logger.info("here")
    assert out.getvalue() == "here\n"


def test_a_user_may_silence_or_record_them(capsys, caplog):
    logger.setLevel(logging.WARNING)
    logger.info("unseen")
    logger.setLevel(logging.INFO)
    logger.handlers.clear()
    logger.info("recorded")
    assert capsys.readouterr() == ("", "") and caplog.messages == ["recorded"]


def test_a_message_is_shown_once_beside_a_root_logger_on_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stderr)])
    logger.info("once")
    assert capsys.readouterr() == ("", "once\n")


def test_what_the_user_has_set_before_the_import_stays():
    code = (
        "import logging; log = logging.getLogger('lightkeras'); log.setLevel(40)\n"
        "log.addHandler(logging.NullHandler()); import lightkeras; print(log.level, log.handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "40 [<NullHandler (NOTSET)>]\n"


def test_the_logger_has_one_handler():
    assert [type(handler) for handler in logger.handlers] == [PlainLines]
