"""The learning rate's way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.training.schedules import SCHEDULES, learning_rate

rates = st.floats(0, 1)


@given(rates, st.sampled_from(sorted(SCHEDULES)), rates, rates)
def test_the_rate_stays_between_zero_and_its_highest(progress, schedule, warmup, final):
    rate = learning_rate(progress, highest=0.5, schedule=schedule, warmup=warmup, final=final)
    assert 0 <= rate <= 0.5


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_it_rises_in_the_warmup_falls_after_it_and_ends_where_it_should(schedule):
    def at(progress):
        return learning_rate(progress, highest=1.0, schedule=schedule, warmup=0.1, final=0.05)

    rising, falling = [at(k / 1000) for k in range(101)], [at(k / 1000) for k in range(100, 1001)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert at(0) > 0
    assert at(0.1) == pytest.approx(1)
    assert at(1) == at(2) == pytest.approx(0.05)


def test_cosine_is_half_way_down_in_the_middle():
    assert learning_rate(0.5, highest=1, schedule="cosine", warmup=0, final=0) == pytest.approx(0.5)
