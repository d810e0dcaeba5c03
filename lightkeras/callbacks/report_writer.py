"""report.html: the page of a run, made at its end; and the sections that only its task can give."""

import json
import time

from lightkeras.callbacks.callback import Callback
from lightkeras.report import write_report
from lightkeras.report.blocks import to_json
from lightkeras.report.record import SECTIONS
from lightkeras.utils.files import write_text
from lightkeras.utils.messages import logger

SHARE = 0.01  # of the training time that the task's sections may take while it trains


class ReportWriter(Callback):
    """Writes `report.html` when training ends, however it ends, and the task's `report_sections()` before.

    The sections are also written after epochs with samples, for a live page, where that takes at most a hundredth of
    the time. A failure to make either is a warning: it ends no run.
    """

    order = 100
    writes_files = chief_only = True

    def __init__(self):
        super().__init__()
        self._took, self._made = 0.0, 0.0

    def on_epoch_end(self, epoch, logs=None):
        due = time.monotonic() - self._made >= self._took / SHARE
        if (
            due
            and (epoch + 1) % self.model.sample_every == 0
            and self.model.global_step < (self.model.total_steps or 0)
        ):
            self._write_sections()

    def on_train_end(self, logs=None):
        if not self.run.interrupted:  # whoever sent the signal waits
            self._write_sections()
        self._write_report()

    def on_exception(self, error):
        self._write_report()

    def _write_sections(self) -> None:
        began = time.monotonic()
        try:
            with self.run.timed("report"), self.model.averaged_weights():
                found = [to_json(section) for section in self.model.report_sections()]
            if found:
                write_text(self.run.folder / SECTIONS, json.dumps(found))
        except Exception as error:
            logger.warning("The task's sections of the report could not be made: %r", error)
        self._made = time.monotonic()
        self._took = self._made - began

    def _write_report(self) -> None:
        try:
            write_report(self.run.folder)
        except Exception as error:
            logger.warning("The report could not be made: %r", error)
