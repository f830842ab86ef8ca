import numpy as np
import pytest

from synfer.annotation.calibration import chance_ece, draw_classes, fit_temperature, log_probabilities, reliability, scale, shares_right
from synfer.annotation.label_noise import LabelNoise, fit_through_noise, mostly_right
from synfer.annotation.pooling import fit_pool
from synfer.annotation.rectifier import HeldOut, rectify_labels

K = 5
NEXT = np.roll(np.eye(K), 1, axis=1)
"""Every class is mistaken for the next one."""


def faces(rng: np.random.Generator, n: int, *, sharpness: float = 1.0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """True classes (N,) and two members' scores (N, K), independent given the truth; at sharpness 1 their product is calibrated."""
    truth = rng.integers(0, K, n)
    clear = rng.choice([1.0, 3.0], (n, 1))  # faces that are hard, and faces that are easy
    noise = [rng.normal(0, 1, (n, K)) for _ in range(2)]
    return truth, {f"m{number}": sharpness * clear * (clear * np.eye(K)[truth] + draw) for number, draw in enumerate(noise)}


def noisy(truth: np.ndarray, wrong: float, rng: np.random.Generator, towards: np.ndarray = NEXT) -> np.ndarray:
    """Labels of which a share `wrong` is drawn from `towards` (K, K)."""
    return draw_classes(((1 - wrong) * np.eye(K) + wrong * towards)[truth], rng)


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
@pytest.mark.parametrize("towards", [NEXT, np.full((K, K), 1 / K)], ids=["next class", "any class"])
@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.3])
def test_noise_and_temperature_are_found_together(wrong: float, towards: np.ndarray, sharpness: float) -> None:
    rng = np.random.default_rng(0)
    truth, members = faces(rng, 3000, sharpness=sharpness)
    labels = noisy(truth, wrong, rng, towards)
    seen, noise = fit_through_noise(np.stack(list(members.values())), labels)
    assert noise.wrong == pytest.approx((labels != truth).mean(), abs=0.02)
    assert seen.weights * sharpness == pytest.approx([1.0, 1.0], rel=0.12)
    assert np.abs(seen.offsets).max() < 0.35  # the classes are equally frequent
    confusion = (1 - wrong) * np.eye(K) + wrong * towards
    assert np.abs(noise.label_given_truth - confusion).max() < 0.05


def test_the_pool_is_calibrated_against_the_truth_though_it_was_fitted_on_noisy_labels() -> None:
    rng = np.random.default_rng(1)
    truth, members = faces(rng, 2000, sharpness=2.0)
    fresh_truth, fresh = faces(rng, 4000, sharpness=2.0)
    labels = noisy(truth, 0.2, rng)
    naive = scale(members["m0"] + members["m1"], fit_temperature(members["m0"] + members["m1"], labels))
    assert reliability(naive, truth).ece > 0.08
    assert reliability(fit_pool(members, labels)(fresh), fresh_truth).ece < 0.02


@pytest.mark.parametrize("n", [100, 400])
def test_members_that_never_err_on_a_small_sample_are_not_sure_without_end(n: int) -> None:
    rng = np.random.default_rng(8)
    drawn = []
    for count in (n, 20_000):
        truth = rng.integers(0, K, count)
        drawn.append((truth, {f"m{number}": 2.0 * np.eye(K)[truth] + rng.normal(0, 0.9, (count, K)) for number in range(3)}))
    (truth, members), (fresh_truth, fresh) = drawn
    pooled = fit_pool(members, noisy(truth, 0.1, rng))(fresh)
    right = float((pooled.argmax(axis=1) == fresh_truth).mean())
    assert right > 0.97
    assert pooled.max(axis=1).mean() == pytest.approx(right, abs=0.01)


def test_members_that_know_nothing_leave_the_noise_near_where_it_starts_from() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, K, 300)
    seen, noise = fit_through_noise(rng.normal(0, 1, (2, 300, K)), labels)
    assert seen.weights.max() < 0.3
    assert noise.joint.min() > 0
    assert noise.joint.sum() == pytest.approx(1.0)


def test_shares_right_are_those_of_the_truth_in_the_mean() -> None:
    rng = np.random.default_rng(3)
    truth, members = faces(rng, 20_000)
    probabilities = scale(members["m0"] + members["m1"], 1.0)
    confusion = 0.75 * np.eye(K) + 0.25 * NEXT
    labels = draw_classes(confusion[truth], rng)
    choice = probabilities.argmax(axis=1)
    assert (choice == labels).mean() < 0.75
    assert shares_right(probabilities, labels, confusion).mean() == pytest.approx((choice == truth).mean(), abs=0.015)
    assert np.array_equal(shares_right(probabilities, labels, np.eye(K)), (choice == labels).astype(float))


def test_reliability_through_noise_is_that_of_the_truth() -> None:
    rng = np.random.default_rng(4)
    truth, members = faces(rng, 20_000)
    confusion = 0.8 * np.eye(K) + 0.2 * NEXT
    labels = draw_classes(confusion[truth], rng)
    for temperature, wrong in ((1.0, False), (0.3, True)):
        probabilities = scale(members["m0"] + members["m1"], temperature)
        found = reliability(probabilities, labels, confusion=confusion, equal_mass=True).ece
        assert found == pytest.approx(reliability(probabilities, truth, equal_mass=True).ece, abs=0.015)
        assert (found > 0.03) == wrong


def test_chance_ece_is_what_a_perfect_pool_shows_and_shrinks_with_more_images() -> None:
    rng = np.random.default_rng(5)
    probabilities = np.exp(log_probabilities(rng.normal(0, 2, (4000, K))))
    few, many = chance_ece(probabilities[:250], draws=50), chance_ece(probabilities, draws=50)
    assert many < few
    shown = [reliability(probabilities, draw_classes(probabilities, rng)).ece for _ in range(50)]
    assert many == pytest.approx(np.mean(shown), rel=0.2)
    assert chance_ece(probabilities, confusion=mostly_right(K), draws=50) > many


def test_equal_mass_bins_hold_equally_many_images() -> None:
    rng = np.random.default_rng(6)
    truth, members = faces(rng, 1500)
    probabilities = scale(members["m0"], 1.0)
    found = reliability(probabilities, truth, equal_mass=True)
    assert set(found.count) == {100}
    assert (np.diff(found.confidence) >= 0).all()
    assert (found.error > 0).all()


def test_thresholds_hold_their_target_on_fresh_faces_though_held_out_and_given_labels_are_noisy() -> None:
    rng = np.random.default_rng(7)
    held_truth, held = faces(rng, 3000)
    truth, members = faces(rng, 6000)
    held_labels, given = noisy(held_truth, 0.15, rng), noisy(truth, 0.4, rng)
    for target in (0.95, 0.98):
        found = rectify_labels(
            members, given, HeldOut(held, held_labels), classes=tuple("abcde"), target_precision=target, equal_margins=False
        )
        used = found.decisions.weight > 0
        assert found.thresholds.coverage < 1
        assert (found.decisions.label == truth)[used].mean() == pytest.approx(target, abs=0.015)
        assert used.mean() == pytest.approx(found.thresholds.coverage, abs=0.03)
        assert found.intent_strength == pytest.approx(1.0, abs=0.2)


def test_the_posterior_of_the_truth_weighs_what_is_seen_against_what_is_labelled() -> None:
    noise = LabelNoise((0.9 * np.eye(2) + 0.05) / 2)
    seen = np.array([[0.5, 0.5], [0.999, 0.001]])
    truth = noise.truth(seen, np.array([1, 1]))
    assert truth[0] == pytest.approx([0.05, 0.95])
    assert truth[1, 0] > 0.97
