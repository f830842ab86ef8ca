import numpy as np
import pytest

from synfer.annotation.calibration import as_scores
from synfer.annotation.intent import estimate_noise, posterior
from synfer.annotation.label_noise import LabelNoise
from synfer.annotation.pooling import fit_pool
from synfer.annotation.reasons import group_names, reasons, what_members_see
from synfer.annotation.rectify import ACTIONS, choose_thresholds, decide, precision_coverage

K = 5


def world(
    rng: np.random.Generator, n: int, wrong: float, haze: float = 0.9
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Truth, intents (a share asks for the next class), two members' scores, the joint noise."""
    truth = rng.integers(0, K, n)
    confusion = (1 - wrong) * np.eye(K) + wrong * np.roll(np.eye(K), 1, axis=1)
    intents = (confusion.cumsum(axis=1)[truth] < rng.random((n, 1))).sum(axis=1)
    members = {f"annotator_{i}": 2.0 * np.eye(K)[truth] + rng.normal(0, haze, (n, K)) for i in range(2)}
    return truth, intents, members, confusion / K


@pytest.mark.parametrize("wrong", [0.1, 0.25, 0.4])
def test_em_finds_the_noise_of_the_intents(wrong: float) -> None:
    rng = np.random.default_rng(0)
    held_truth, _, held, _ = world(rng, 1500, wrong)
    _, intents, members, joint = world(rng, 3000, wrong)
    noise = estimate_noise(fit_pool(held, held_truth)(members), intents)
    assert noise.wrong == pytest.approx(wrong, abs=0.03)
    assert np.abs(noise.joint - joint).max() < 0.02


@pytest.mark.parametrize("wrong", [0.1, 0.2, 0.4])
def test_the_posterior_beats_the_intent_the_members_and_always_relabelling(wrong: float) -> None:
    rng = np.random.default_rng(1)
    held_truth, _, held, _ = world(rng, 1000, wrong)
    truth, intents, members, _ = world(rng, 3000, wrong)
    pooled = fit_pool(held, held_truth)(members)
    result = posterior(pooled, intents, estimate_noise(pooled, intents)).argmax(axis=1)
    right = (result == truth).mean()
    assert right > (intents == truth).mean()
    assert right > (pooled.argmax(axis=1) == truth).mean()


def test_members_that_only_lean_to_one_class_leave_the_intents_alone() -> None:
    rng = np.random.default_rng(9)
    intents = rng.integers(0, K, 1000)
    leaning = rng.dirichlet([400.0, 100, 100, 100, 100], 1000)  # nothing but a taste for class 0
    noise = estimate_noise(leaning, intents)
    assert noise.wrong < 0.4
    assert (posterior(leaning, intents, noise).argmax(axis=1) == intents).mean() > 0.9


def test_a_generator_that_falls_back_to_one_class_is_seen_through() -> None:
    rng = np.random.default_rng(10)
    intents = rng.integers(0, K, 3000)
    truth = np.where((intents == 3) & (rng.random(3000) < 0.5), 0, intents)  # asked for class 3, half of the time it draws class 0
    scores = {"a": 2.0 * np.eye(K)[truth] + rng.normal(0, 0.9, (3000, K))}
    pooled = fit_pool(scores, truth)(scores)
    noise = estimate_noise(pooled, intents)
    result = posterior(pooled, intents, noise).argmax(axis=1)
    assert noise.truth_given_label[3, 0] > 3 * noise.truth_given_label[4, 0]
    assert (result == truth).mean() > max((intents == truth).mean(), (pooled.argmax(axis=1) == truth).mean())


def test_strength_zero_ignores_the_intent() -> None:
    pooled = np.random.default_rng(2).dirichlet(np.ones(K), 20)
    noise = LabelNoise((0.8 * np.eye(K) + 0.2 / K) / K)
    assert posterior(pooled, np.zeros(20, dtype=int), noise, strength=0.0) == pytest.approx(pooled)


def test_simulated_intents_have_the_noise_asked_for() -> None:
    _, _, _, joint = world(np.random.default_rng(3), 10, 0.3)
    noise = LabelNoise(np.where(joint > 0, joint, 1e-9))
    labels = np.random.default_rng(4).integers(0, K, 20000)
    assert (noise.simulate(labels, np.random.default_rng(5)) != labels).mean() == pytest.approx(0.3, abs=0.02)


def test_thresholds_reach_the_target_on_new_images_at_the_coverage_they_promise() -> None:
    rng = np.random.default_rng(6)
    held_truth, held_intents, held, _ = world(rng, 4000, 0.3, haze=1.6)
    truth, intents, members, _ = world(rng, 4000, 0.3, haze=1.6)
    pool = fit_pool(held, held_truth)
    noise = estimate_noise(pool(members), intents)
    chosen = choose_thresholds(posterior(pool(held), held_intents, noise), held_truth, target=0.95)
    q = posterior(pool(members), intents, noise)
    used = q.max(axis=1) >= chosen.reject_below
    assert chosen.reached
    assert 0.5 < chosen.coverage < 0.95
    assert chosen.reject_below < chosen.assert_from
    assert (q.argmax(axis=1) == truth)[used].mean() == pytest.approx(0.95, abs=0.015)
    assert used.mean() == pytest.approx(chosen.coverage, abs=0.03)


def test_a_higher_target_never_covers_more() -> None:
    rng = np.random.default_rng(7)
    truth, _, members, _ = world(rng, 2000, 0.2)
    q = fit_pool(members, truth)(members)
    coverage = [choose_thresholds(q, truth, target=target).coverage for target in (0.85, 0.9, 0.93, 0.95)]
    assert coverage == sorted(coverage, reverse=True)


def test_an_unreachable_target_takes_the_best_precision_that_covers_half() -> None:
    rng = np.random.default_rng(8)
    q, labels = rng.dirichlet(np.ones(K), 400), rng.integers(0, K, 400)
    chosen = choose_thresholds(q, labels, target=0.99)
    curve = precision_coverage(q, labels)
    assert not chosen.reached
    assert chosen.precision == pytest.approx(curve.precision[curve.coverage >= 0.5].max())


@pytest.mark.parametrize("right_first", [True, False])
def test_images_that_are_equally_sure_are_used_together_and_the_promise_holds_for_all_of_them(right_first: bool) -> None:
    q = np.repeat([[0.96, 0.04], [0.8, 0.2], [0.7, 0.3]], [40, 30, 30], axis=0)
    right = np.concatenate([np.ones(40, bool), np.arange(30) < 15, np.arange(30) < 15])  # 40 of 40, then half of each block
    right = right if right_first else right[np.concatenate([np.arange(40), np.arange(69, 39, -1), np.arange(99, 69, -1)])]
    chosen = choose_thresholds(q, np.where(right, 0, 1), target=0.9, min_coverage=0.3)
    used = q.max(axis=1) >= chosen.reject_below
    assert (chosen.precision, chosen.coverage) == (right[used].mean(), used.mean()) == (1.0, 0.4)
    assert chosen.assert_from == 0.96


def test_actions_follow_the_thresholds_and_say_why() -> None:
    thresholds = choose_thresholds(np.eye(K) * 0.9 + 0.02, np.arange(K), target=0.9)
    thresholds = type(thresholds)(reject_below=0.5, assert_from=0.8, target=0.9, precision=0.95, coverage=0.9, asserted=0.8)
    q = np.array([[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.6, 0.4, 0, 0, 0], [0.3, 0.25, 0.25, 0.2, 0]])
    intents = np.array([0, 1, 1, 2])
    choices = {"annotator_0": np.array([0, 0, 0, 1]), "annotator_1": np.array([0, 0, 1, 2]), "FERAnno": np.array([0, 0, 0, 0])}
    decisions = decide(q, intents, np.stack(list(choices.values())), thresholds)
    assert [ACTIONS[a] for a in decisions.action] == ["keep", "relabel", "soften", "reject"]
    assert decisions.weight.tolist() == [1, 1, 1, 0]
    assert decisions.agreement == pytest.approx([1, 1, 2 / 3, 1 / 3])
    words = reasons(q, intents, choices, decisions, thresholds, classes=("neutral", "anger", "disgust", "fear", "sadness"))
    assert words[1] == "both annotators and FERAnno see neutral; neutral (0.90), asked was anger"
    assert words[2].startswith("FERAnno and annotator 0 see neutral, annotator 1 sees anger; soft label neutral 0.60, anger 0.40")
    assert "no label reaches 0.50: neutral 0.30, anger 0.25; asked was disgust" in words[3]


def test_entropy_is_that_of_the_posterior() -> None:
    q = np.array([[1.0, 0, 0, 0, 0], [0.2] * 5])
    thresholds = choose_thresholds(q, np.array([0, 0]), target=0.5)
    assert decide(q, np.array([0, 0]), np.zeros((1, 2), int), thresholds).entropy == pytest.approx([0, np.log(5)], abs=1e-6)


def test_phrases_name_a_whole_series_as_one() -> None:
    everyone = ["annotator_0", "annotator_1", "FERAnno"]
    assert group_names(["annotator_1", "annotator_0"], everyone) == "both annotators"
    assert group_names(["annotator_1"], everyone) == "annotator 1"
    assert what_members_see(dict.fromkeys(everyone, "fear")) == "both annotators and FERAnno see fear"


def test_scores_of_probabilities_are_their_logarithms() -> None:
    assert as_scores(np.array([[0.5, 0.5, 0.0]]))[0, 2] < -27
