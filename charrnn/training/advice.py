"""One line of advice when a training shows a known illness."""

from __future__ import annotations

from collections.abc import Sequence

from charrnn.training.events import Report


def advice(reports: Sequence[Report], clip: float) -> str | None:
    """What the reports so far suggest, or ``None`` if the training looks healthy.

    - overfitting: validation is 1 % above its best, and has not been at its best for three validations, while
      training still falls;
    - learning rate too high: the mean loss of the last tenth of the reports is clearly above that of the tenth before
      it, or the gradients are far above the clipping norm;
    - too small a model: training and validation lie together and neither has moved in the last quarter.
    """
    if len(reports) < 20:
        return None
    train = [report.train_nats_per_char for report in reports]
    tenth = max(5, len(train) // 10)
    recent, before = _mean(train[-tenth:]), _mean(train[-2 * tenth : -tenth])
    norms = [report.gradient_norm for report in reports[-tenth:]]
    if recent > 1.03 * before + 0.02:
        return "the training loss is rising: try a lower --learning-rate"
    if clip > 0 and _mean(norms) > 20 * clip:
        return f"gradients are {_mean(norms) / clip:.0f} times the clipping norm: try a lower --learning-rate"
    scores = [report.validation_nats_per_char for report in reports if report.validation_nats_per_char is not None]
    turned_up = len(scores) >= 4 and min(scores[:-3]) < min(scores[-3:]) and scores[-1] > 1.01 * min(scores)
    if turned_up and recent < before:
        return "overfitting: validation has turned up; try more --dropout, fewer --epochs, or more text"
    if len(scores) >= 8 and reports[-1].progress > 0.5:
        quarter = len(scores) // 4
        flat = scores[-1 - quarter] - scores[-1] < 0.002
        if flat and scores[-1] - recent < 0.02 and reports[-1].progress < 0.9:
            return "no longer learning, and not overfitting: a larger --hidden-size would do better"
    return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
