"""Advice: for the illness, not for the healthy."""

import numpy as np

from charrnn.training.advice import advice
from charrnn.training.events import Report


def reports(train, validation=None, norm=0.5, end=1.0):
    """Reports with these training losses; validation losses spread evenly over them."""
    every = len(train) // len(validation) if validation else 0
    made = []
    for k, nats in enumerate(train):
        score = validation[k // every] if every and k % every == every - 1 and k // every < len(validation) else None
        made.append(Report(k * 10, k / 10, k, 0.01, nats, norm, 1e4, end * (k + 1) / len(train), score))
    return made


FALLING = list(np.linspace(3, 1.5, 100) + np.random.default_rng(0).normal(0, 0.05, 100))


def test_a_healthy_training_gets_none():
    assert advice(reports(FALLING), clip=1.0) is None
    assert advice(reports(FALLING, list(np.linspace(3, 1.6, 10))), clip=1.0) is None
    noisy = list(2 + np.random.default_rng(1).normal(0, 0.1, 300))
    assert advice(reports(noisy, list(np.linspace(2.2, 2.0, 10))), clip=1.0) is None


def test_rising_loss_and_huge_gradients_ask_for_a_lower_learning_rate():
    assert "--learning-rate" in advice(reports([*FALLING, *np.linspace(1.5, 4, 40)]), clip=1.0)
    assert "--learning-rate" in advice(reports(FALLING, norm=100.0), clip=1.0)
    assert advice(reports(FALLING, norm=100.0), clip=0.0) is None


def test_validation_that_turns_up_while_training_falls_is_overfitting():
    validation = [2.5, 2.0, 1.8, 1.7, 1.72, 1.75, 1.8, 1.85, 1.9, 1.95]
    assert "overfitting" in advice(reports(FALLING, validation), clip=1.0)
    flat = [2.0] * 100
    assert "overfitting" not in (advice(reports(flat, validation), clip=1.0) or "")


def test_a_model_that_has_learned_all_it_can_is_too_small():
    assert "--hidden-size" in advice(reports([2.0] * 100, [2.0] * 10, end=0.8), clip=1.0)
