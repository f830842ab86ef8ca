"""Linear probe, nearest neighbours and few-shot episodes on features whose answer is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from synfer.classifiers.feature_rows import FeatureError
from synfer.classifiers.few_shot import draw_episode, few_shot, query_hits
from synfer.classifiers.neighbours import knn_probabilities
from synfer.classifiers.probe import linear_probe
from synfer.vocabulary import COMPOUNDS

CLASSES = ("anger", "disgust", "fear")


def clusters(count: int, *, apart: float, seed: int, classes: int = 3, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, width) around a centre a class, `apart` standard deviations from the origin, and their labels."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    centres *= apart / np.linalg.norm(centres, axis=1, keepdims=True)
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (centres[labels] + generator.normal(size=(count, width))).astype(np.float32), labels


def test_a_probe_reads_separable_features_and_is_at_chance_on_noise() -> None:
    for apart, low, high in ((6.0, 0.97, 1.0), (0.0, 0.2, 0.47)):
        (train, labels), (val, val_labels), (test, truth) = (clusters(300, apart=apart, seed=seed) for seed in range(3))
        probe = linear_probe(train, np.eye(3)[labels], val, np.eye(3)[val_labels], classes=CLASSES)
        found = probe.probabilities(test)
        assert np.allclose(found.sum(1), 1, atol=1e-5)
        assert low <= (found.argmax(1) == truth).mean() <= high


def test_a_probe_of_one_strength_is_the_logistic_regression_of_standardised_features() -> None:
    (train, labels), (test, _) = clusters(200, apart=2.0, seed=0), clusters(50, apart=2.0, seed=1)
    probe = linear_probe(train, np.eye(3)[labels], train, np.eye(3)[labels], classes=3, strengths=[0.1])
    mean, spread = train.mean(0), train.std(0)
    wanted = LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit((train - mean) / spread, labels).predict_proba((test - mean) / spread)
    assert np.allclose(probe.probabilities(test), wanted, atol=5e-3)


@pytest.mark.parametrize("present", [(0, 2), (0, 1, 3)])
def test_classes_without_an_example_get_nothing(present: tuple[int, ...]) -> None:
    features, labels = clusters(120, apart=5.0, seed=0, classes=len(present))
    targets = np.eye(4)[np.array(present)[labels]]
    found = linear_probe(features, targets, features, targets, classes=4).probabilities(features)
    assert (found.argmax(1) == targets.argmax(1)).mean() > 0.95
    assert found[:, [k for k in range(4) if k not in present]].max() == 0


def test_soft_targets_count_by_their_shares_and_rows_by_their_weights() -> None:
    features, labels = clusters(90, apart=1.5, seed=0)
    soft = 0.7 * np.eye(3)[labels] + 0.1
    hard = np.concatenate([np.eye(3)[np.full(90, k)] for k in range(3)])
    weights = np.concatenate([soft[:, k] for k in range(3)])
    one = linear_probe(features, soft, features, soft, classes=3, strengths=[0.1])
    other = linear_probe(np.tile(features, (3, 1)), hard, features, soft, classes=3, strengths=[0.1], weights=weights)
    assert np.allclose(one.probabilities(features), other.probabilities(features), atol=5e-3)


def test_the_strength_is_chosen_on_val() -> None:
    (train, labels), (val, val_labels) = (clusters(60, apart=2.0, seed=seed, width=40) for seed in (0, 1))
    targets, val_targets = np.eye(3)[labels], np.eye(3)[val_labels]
    best = linear_probe(train, targets, val, val_targets, classes=3)
    singles = [linear_probe(train, targets, val, val_targets, classes=3, strengths=[c]).val_uar for c in (1e-3, 1e-2, 1e-1, 1.0)]
    assert best.val_uar == pytest.approx(max(singles), abs=0.02)


def slow_neighbours(train: np.ndarray, labels: np.ndarray, one: np.ndarray, classes: int, k: int, temperature: float) -> np.ndarray:
    cosines = [float(row @ one / np.linalg.norm(row) / np.linalg.norm(one)) for row in train.astype(float)]
    votes = np.zeros(classes)
    for index in sorted(range(len(train)), key=lambda i: -cosines[i])[:k]:
        votes[labels[index]] += np.exp(cosines[index] / temperature)
    return votes / votes.sum()


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (500, 1.0)])
def test_neighbours_agree_with_a_slow_reference(k: int, temperature: float) -> None:
    (train, labels), (test, _) = clusters(60, apart=1.0, seed=0), clusters(15, apart=1.0, seed=1)
    found = knn_probabilities(train, labels, test, classes=4, k=k, temperature=temperature)
    wanted = [slow_neighbours(train, labels, row, 4, k, temperature) for row in test]
    assert np.allclose(found, wanted, atol=1e-6)
    assert knn_probabilities(train, labels, test[:0], classes=4).shape == (0, 4)


def test_an_episode_has_disjoint_support_and_query_of_its_classes() -> None:
    labels = np.array(sorted(COMPOUNDS))[np.arange(200) % len(COMPOUNDS)]
    for seed in range(20):
        episode = draw_episode(labels, ways=5, shots=3, queries=4, seed=seed)
        rows = np.concatenate([episode.support, episode.query], axis=1)
        assert rows.shape == (5, 7)
        assert len(np.unique(rows)) == 35
        assert [len(np.unique(labels[row])) for row in rows] == [1] * 5
        assert len(np.unique(labels[rows[:, 0]])) == 5


def test_episodes_are_right_on_separable_features_and_at_chance_on_noise() -> None:
    sizes = {"ways": 5, "shots": 5, "queries": 10}
    separable, labels = clusters(300, apart=40.0, seed=0, classes=8)
    assert (few_shot(separable, labels, **sizes, episodes=20) == 1).all()
    noise, labels = clusters(300, apart=0.0, seed=0, classes=8)
    found = few_shot(noise, labels, **sizes, episodes=200)
    assert found.shape == (200,)
    assert found.mean() == pytest.approx(0.2, abs=0.03)


def test_hits_of_every_example_are_those_of_the_episodes() -> None:
    features, labels = clusters(60, apart=2.0, seed=0, classes=4)
    sizes = {"ways": 3, "shots": 2, "queries": 4, "episodes": 30, "seed": 5}
    hits, asked = query_hits(features, labels, **sizes)
    assert asked.sum() == 30 * 3 * 4
    assert (hits <= asked).all()
    assert hits.sum() / asked.sum() == pytest.approx(few_shot(features, labels, **sizes).mean())


def test_more_shots_make_better_prototypes_and_the_seed_decides_the_episodes() -> None:
    features, labels = clusters(400, apart=2.5, seed=0, classes=6)
    one, ten = (few_shot(features, labels, ways=5, shots=shots, queries=10, episodes=60) for shots in (1, 10))
    assert ten.mean() > one.mean() + 0.1
    again = few_shot(features, labels, ways=5, shots=1, queries=10, episodes=60)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, few_shot(features, labels, ways=5, shots=1, queries=10, episodes=60, seed=1))


def test_what_cannot_be_an_episode_says_so() -> None:
    labels = np.array(["happily surprised"] * 9 + ["sadly angry"] * 5)
    with pytest.raises(FeatureError, match="3 ways needs as many classes, found 2"):
        draw_episode(labels, ways=3, shots=1, queries=1, seed=0)
    with pytest.raises(FeatureError, match="sadly angry has 5 examples; 2 shots and 4 queries need 6"):
        draw_episode(labels, ways=2, shots=2, queries=4, seed=0)
    with pytest.raises(FeatureError, match="two ways, one shot and one query"):
        draw_episode(labels, ways=2, shots=0, queries=4, seed=0)


def test_features_that_do_not_fit_are_refused() -> None:
    features, labels = clusters(30, apart=1.0, seed=0)
    targets = np.eye(3)[labels]
    with pytest.raises(FeatureError, match=r"val targets must be class probabilities \(N, 3\)"):
        linear_probe(features, targets, features, labels, classes=3)
    with pytest.raises(FeatureError, match="30 rows of train features, 29 of labels"):
        linear_probe(features, targets[:29], features, targets, classes=3)
    with pytest.raises(FeatureError, match="at least two classes"):
        linear_probe(features, np.eye(3)[labels * 0], features, targets, classes=3)
    with pytest.raises(FeatureError, match="1 rows that are not finite"):
        linear_probe(np.where(np.arange(30)[:, None] == 3, np.nan, features), targets, features, targets, classes=3)
    with pytest.raises(FeatureError, match="the probe reads features"):
        linear_probe(features, targets, features, targets, classes=3).probabilities(features[:, :5])
    with pytest.raises(FeatureError, match=r"class numbers 0\.\.1, found int64 0\.\.2"):
        knn_probabilities(features, labels, features, classes=2)
    with pytest.raises(FeatureError, match="k 0"):
        knn_probabilities(features, labels, features, classes=3, k=0)
