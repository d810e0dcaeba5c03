"""The command line: `lightkeras fit TASK ...`."""
