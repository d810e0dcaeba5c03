"""The shared learning-rate schedule, by numbers worked out by hand."""

import numpy as np
import pytest

import lightkeras as lk


@pytest.mark.parametrize(
    ("arguments", "rates"),
    [
        ((0.4, 4, 12), {0: 0.0, 1: 0.1, 4: 0.4, 8: 0.2, 12: 0.0}),
        ((0.4, 0, 8), {0: 0.4, 4: 0.2, 8: 0.0}),
        ((0.4, 4, None), {0: 0.0, 2: 0.2, 4: 0.4, 1000: 0.4}),
    ],
)
def test_the_rate_rises_and_falls(arguments, rates):
    schedule = lk.schedules.warmup_cosine(*arguments)
    assert [float(schedule(step)) for step in rates] == pytest.approx(list(rates.values()), abs=1e-7)


def test_a_rate_that_never_changes_is_a_number():
    assert lk.schedules.warmup_cosine(0.4, 0, None) == 0.4


def test_a_warmup_longer_than_the_run_only_rises():
    rates = [float(lk.schedules.warmup_cosine(0.4, 8, 4)(step)) for step in range(5)]
    assert np.all(np.diff(rates) > 0) and rates[-1] == pytest.approx(0.2)
