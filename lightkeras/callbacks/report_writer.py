"""report.html: the page of a run, made at its end; and the sections that only its task can give."""

import dataclasses
import json
import time

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.sample_writer import SampleWriter
from lightkeras.report import Section, write_report
from lightkeras.report.blocks import to_json
from lightkeras.report.record import SECTIONS
from lightkeras.utils.files import write_text
from lightkeras.utils.messages import logger

SHARE = 0.01  # of the training time that the task's sections may take


class ReportWriter(Callback):
    """Writes `report.html` when training ends, however it ends.

    After epochs with samples it writes the task's `report_sections()`, if that takes at most a hundredth of the time
    since it did so last, and after the last epoch in any case. A failure to make either is a warning: it ends no run.
    """

    order = 100
    writes_files = chief_only = True

    def __init__(self):
        super().__init__()
        self._took, self._made = 0.0, 0.0

    def on_epoch_end(self, epoch, logs=None):
        last = self.model.stop_training or epoch + 1 == self.run.epochs
        cheap = time.monotonic() - self._made >= self._took / SHARE
        if (epoch + 1) % self._every() == 0 and (last or cheap):
            self._write_sections(epoch)

    def _every(self) -> int:
        """Epochs between two samples."""
        writers = [callback for callback in self.run.callbacks.callbacks if isinstance(callback, SampleWriter)]
        return next((writer.every_n_epochs for writer in writers), None) or self.model.sample_every

    def on_train_end(self, logs=None):
        self._write_report()

    def on_exception(self, error):
        self._write_report()

    def _write_sections(self, epoch: int) -> None:
        began = time.monotonic()
        try:
            with self.model.averaged_weights():
                found = [_date(section, epoch) for section in self.model.report_sections()]
                if found:
                    write_text(self.run.folder / SECTIONS, json.dumps([to_json(section) for section in found]))
        except Exception as error:
            logger.warning("The task's sections of the report could not be made: %r", error)
        self._made = time.monotonic()
        self._took = self._made - began

    def _write_report(self) -> None:
        try:
            write_report(self.run.folder)
        except Exception as error:
            logger.warning("The report could not be made: %r", error)


def _date(section: Section, epoch: int) -> Section:
    return dataclasses.replace(section, note=f"After epoch {epoch + 1}. {section.note}".strip())
