"""The verifier: tries the promises of the library on a task and its data."""

from lightkeras.verifier.report import Report
from lightkeras.verifier.run_checks import check

__all__ = ["Report", "check"]
