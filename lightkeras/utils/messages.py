"""Messages of the library: `logging.getLogger("lightkeras")`, shown as plain lines unless the user decides otherwise.

The results of commands, help texts and the progress display are printed; everything else is a message.
`import lightkeras` shows messages of level INFO and above. To change that::

    logging.getLogger("lightkeras").setLevel(logging.WARNING)  # fewer
    logging.getLogger("lightkeras").handlers.clear()           # leave them to the handlers of the root logger
"""

import logging
import sys

logger = logging.getLogger("lightkeras")


class PlainLines(logging.Handler):
    """Prints each message without level or time: to stdout, from WARNING on to stderr.

    The streams are looked up for each message, so `contextlib.redirect_stdout` works. A message is left to the root
    logger if that writes to the terminal already, as after `logging.basicConfig()`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        terminal = (sys.stdout, sys.stderr)
        if any(getattr(handler, "stream", None) in terminal for handler in logging.root.handlers):
            return
        print(self.format(record), file=terminal[record.levelno >= logging.WARNING], flush=True)


def show_messages() -> None:
    """Shows messages of level INFO and above, unless the logger has a level or a handler already."""
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(PlainLines())
