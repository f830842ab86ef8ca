"""Memorisation: copies give 1, fresh draws a half within the interval; references must be a fair comparison; distances are exact."""

import numpy as np
import pytest

from synfer.metrics.memorisation import MemorisationError, downsampled, memorisation, nearest_neighbours


def normal(rows: int, seed: int, *, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def test_copies_of_training_images_give_one_and_their_pairs() -> None:
    training, rows = normal(80, 0), np.array([5, 70, 31, 31])
    found = memorisation(training[rows], training, normal(80, 1))
    assert (found.share.value, found.share.low, found.share.high, found.share.n) == (1.0, 1.0, 1.0, 4)
    assert found.training.tolist() == rows.tolist()
    assert found.training_distances == pytest.approx(0.0, abs=1e-3)


def test_copies_of_held_out_images_give_zero_and_a_tie_counts_half() -> None:
    training, held_out = normal(60, 0), normal(60, 1)
    found = memorisation(held_out[:20], training, held_out)
    assert found.share.value == 0.0
    assert found.held_out.tolist() == list(range(20))
    both = np.concatenate([training[:1], held_out[1:]])
    assert memorisation(training[:1], training, both).share.value == 0.5


def test_a_share_of_copies_moves_the_share_by_half_as_much() -> None:
    training = normal(500, 0, width=4)
    images = np.concatenate([training[:200] + 0.01 * normal(200, 1, width=4), normal(300, 2, width=4)])
    share = memorisation(images, training, normal(500, 3, width=4)).share
    assert share.value == pytest.approx(0.5 + 0.4 / 2, abs=0.06)
    assert share.low > 0.5


def test_a_few_copies_among_many_images_are_seen_among_the_closest() -> None:
    training, held_out = normal(500, 0), normal(500, 3)
    images = np.concatenate([training[:25] + 0.01 * normal(25, 1), normal(475, 2)])
    found = memorisation(images, training, held_out)
    assert found.share.low < 0.55, "too few to be seen among all"
    assert found.share_closest.low > 0.55
    assert found.share_closest.n == 50


def test_a_handful_of_images_on_one_side_proves_nothing() -> None:
    fresh = [memorisation(normal(30, seed), normal(40, seed + 100), normal(40, seed + 200)).share_closest for seed in range(30)]
    assert {found.value for found in fresh} >= {0.0, 1.0}, "three images are all on one side now and then"
    assert all(found.low < 0.55 for found in fresh)


@pytest.mark.parametrize(("width", "images_a_person"), [(8, 6), (64, 1)])
def test_interval_covers_a_half_in_about_95_of_100_fresh_draws(width: int, images_a_person: int) -> None:
    """Also where a person has several images, and in many dimensions, where a few references are the nearest of many images."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        images = rng.normal(size=(100, width))
        people = np.repeat(np.arange(120 // images_a_person), images_a_person)
        training, held_out = (0.8 * rng.normal(size=(120, width))[people] + 0.6 * rng.normal(size=(120, width)) for _ in range(2))
        names = {"training_people": [f"a{one}" for one in people], "held_out_people": [f"b{one}" for one in people]}
        share = memorisation(images, training, held_out, resamples=200, **names).share
        covered += share.low <= 0.5 <= share.high
    assert covered >= 54


def test_neighbours_in_chunks_are_those_of_all_distances_at_once() -> None:
    from sklearn import config_context

    images, references = normal(300, 0, width=5), normal(700, 1, width=5)
    table = np.sqrt(((images[:, None].astype(np.float64) - references[None]) ** 2).sum(axis=2))
    with config_context(working_memory=1):  # MiB
        distances, rows = nearest_neighbours(images, references)
    assert (rows == table.argmin(axis=1)).all()
    np.testing.assert_allclose(distances, table.min(axis=1), rtol=1e-4)


def test_closest_are_the_nearest_to_training_images_in_order() -> None:
    found = memorisation(normal(50, 0), normal(60, 1), normal(60, 2))
    assert found.closest(3).tolist() == np.argsort(found.training_distances)[:3].tolist()


def test_the_measure_is_seeded() -> None:
    sets = normal(40, 0), normal(60, 1), normal(60, 2)
    assert memorisation(*sets, seed=1).share == memorisation(*sets, seed=1).share != memorisation(*sets, seed=2).share


def test_pixel_distance_is_the_root_mean_square_of_the_smaller_images() -> None:
    dark, light = np.full((1, 64, 64, 3), 51, np.uint8), np.full((1, 64, 64, 3), 102, np.uint8)
    assert np.linalg.norm(downsampled(light) - downsampled(dark)) == pytest.approx(0.2, abs=1e-5)
    checked = np.indices((64, 64)).sum(axis=0) % 2 * 255
    fine = np.repeat(checked[None, :, :, None], 3, axis=3).astype(np.uint8)  # one-pixel squares average out
    assert np.ptp(downsampled(fine)) < 1e-6
    assert downsampled(np.concatenate([dark, light, fine]), side=8).shape == (3, 192)


def test_sets_that_make_no_fair_comparison_are_refused() -> None:
    images, references = normal(10, 0), normal(20, 1)
    with pytest.raises(MemorisationError, match=r"equally many.*found \(10, 12\), \(20, 12\), \(19, 12\)"):
        memorisation(images, references, references[1:])
    with pytest.raises(MemorisationError, match=r"one width.*found \(10, 5\)"):
        memorisation(images[:, :5], references, references)
    with pytest.raises(MemorisationError, match=r"must be \(M, D\).*found \(0, 12\)"):
        memorisation(images[:0], references, references)
    people = [f"person-{number}" for number in range(20)]
    with pytest.raises(MemorisationError, match=r"person-0 is in the training and the held-out references \(20 people"):
        memorisation(images, references, references, training_people=people, held_out_people=people)
    with pytest.raises(MemorisationError, match="20 and 1 people for 20 training and 20 held-out images"):
        memorisation(images, references, references, training_people=people, held_out_people=["nobody"])
