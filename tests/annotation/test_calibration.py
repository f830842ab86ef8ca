import numpy as np
import pytest

from synfer.annotation.calibration import AnnotationError, fit_temperature, fit_weights, log_probabilities, reliability, scale


def draw(rng: np.random.Generator, *, n: int = 4000, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax is the true distribution of the labels when `sharpness` is 1."""
    scores = rng.normal(0, 2, (n, 5))
    probabilities = np.exp(log_probabilities(scores))
    labels = (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return scores * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_over_and_underconfidence(sharpness: float) -> None:
    scores, labels = draw(np.random.default_rng(0), sharpness=sharpness)
    temperature = fit_temperature(scores, labels)
    assert temperature == pytest.approx(sharpness, rel=0.08)
    assert reliability(scale(scores, temperature), labels).ece < 0.03


def test_temperature_is_the_best_on_a_grid() -> None:
    scores, labels = draw(np.random.default_rng(1), n=500, sharpness=2.0)

    def loss(temperature: float) -> float:
        return float(-np.log(scale(scores, temperature)[np.arange(len(labels)), labels]).mean())

    assert loss(fit_temperature(scores, labels)) <= min(loss(t) for t in np.geomspace(0.2, 10, 200)) + 1e-7


def test_calibration_keeps_the_choice_and_an_added_constant_does_not_matter() -> None:
    scores, labels = draw(np.random.default_rng(2), n=300)
    assert (scale(scores, 2.5).argmax(axis=1) == scores.argmax(axis=1)).all()
    assert fit_temperature(scores + 7.0, labels) == pytest.approx(fit_temperature(scores, labels), rel=1e-5)


def test_weights_drop_a_member_that_guesses_and_follow_the_order_of_the_members() -> None:
    rng = np.random.default_rng(3)
    scores, labels = draw(rng)
    members = np.stack([log_probabilities(scores), log_probabilities(rng.normal(0, 2, scores.shape))])
    weights = fit_weights(members, labels)
    assert weights == pytest.approx([1.0, 0.0], abs=0.06)
    assert fit_weights(members[::-1], labels)[::-1] == pytest.approx(weights, abs=1e-4)


def test_ece_by_the_slow_way() -> None:
    scores, labels = draw(np.random.default_rng(4), n=400, sharpness=2.0)
    probabilities, total = scale(scores, 1.0), 0.0
    for low in np.arange(10) / 10:
        inside = [p for p in range(400) if low <= probabilities[p].max() < low + 0.1]
        if inside:
            gap = np.mean([probabilities[p].max() for p in inside]) - np.mean([probabilities[p].argmax() == labels[p] for p in inside])
            total += len(inside) * abs(gap) / 400
    assert reliability(probabilities, labels, bins=10).ece == pytest.approx(total)


def test_labels_outside_the_classes_are_named() -> None:
    with pytest.raises(AnnotationError, match=r"labels lie in 0\.\.9, but there are 5 classes"):
        fit_temperature(np.zeros((2, 5)), np.array([0, 9]))
