"""Throughput, measured: `lightkeras bench NAME`."""
