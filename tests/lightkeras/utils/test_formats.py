"""How numbers and times are written."""

import pytest

from lightkeras.utils import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.500"), (0.0123456, "0.01235"), (99.999, "100.0"), (999.96, "1,000"), (12345.6, "12,346"),
        (0.0, "0.000"), (1.23e12, "1.23e+12"), (-2e-7, "-2e-07"), (float("nan"), "nan"), (float("-inf"), "-inf"),
        (1234567, "1,234,567"),
    ],
)  # fmt: skip
def test_numbers_are_as_long_as_they_need(value, text):
    assert formats.format_value(value) == text


def test_clock():
    assert [formats.clock(s) for s in (0, 59.6, 61, 3600, 36_001)] == ["0:00", "1:00", "1:01", "1:00:00", "10:00:01"]


def test_zeros_at_the_end_are_left_out_where_a_number_stands_alone():
    values = (None, 1.5, 20.0, 0.0, 12345.0, 1.2e12, 0.25, 7)
    assert [formats.show(value) for value in values] == ["", "1.5", "20", "0", "12,345", "1.2e+12", "0.25", "7"]
