"""The verifier: tries the promises of the library on a task and its data."""

from lightkeras.verifier.checks import Report, check

__all__ = ["Report", "check"]
