import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synfer.annotation.calibration import AnnotationError
from synfer.annotation.feranno import Feranno, FerannoShape, load_feranno, pool_map, save_feranno
from synfer.annotation.feranno_fit import FeatureSet, fit_feranno, predict_aus, predict_feranno
from synfer.vocabulary import AU_COUNT, AU_INDEX, left_right

CLASSES = ("neutral", "happiness", "anger")
CHANNELS, SIDES, WORDS = (16, 16, 8), (4, 8, 16), 3


def features(rng: np.random.Generator, n: int, *, where: str = "both") -> FeatureSet:
    """Random features in which the class lights up one cell of the maps, of the attention, or of both."""
    labels = rng.integers(0, len(CLASSES), n)
    maps = [rng.normal(0, 1, (n, c, s, s)).astype(np.float16) for c, s in zip(CHANNELS, SIDES, strict=True)]
    attention = rng.normal(0, 1, (n, WORDS, 8, 8)).astype(np.float16) * np.float16(1e-2)
    rows = np.arange(n)
    if where in ("both", "maps"):
        maps[1][rows, :4, 2, 1 + 2 * labels] += 3
    if where in ("both", "attention"):
        attention[rows, labels, 5:7, 2:5] += np.float16(0.04)
    return FeatureSet(maps, attention, labels)


def with_aus(rng: np.random.Generator, data: FeatureSet) -> FeatureSet:
    """The features with AU 26 drawn into one channel, the left half of AU 12 into another; half of the faces do not know AU 26."""
    jaw, corner = (rng.uniform(0, 5, len(data)).astype(np.float32) for _ in range(2))
    data.maps[0][:, 5] += (jaw[:, None, None] - 2.5).astype(np.float16)
    data.maps[0][:, 6] += (corner[:, None, None] - 2.5).astype(np.float16)
    aus = np.full((len(data), AU_COUNT), np.nan, dtype=np.float32)
    aus[:, [AU_INDEX[code] for code in ("12", "R12", "43")]] = 0.0
    aus[:, AU_INDEX["12"]] = 1.0 + rng.random(len(data))
    aus[:, AU_INDEX["L12"]] = corner
    aus[: len(data) // 2, AU_INDEX["26"]] = jaw[: len(data) // 2]
    return replace(data, aus=aus)


@pytest.mark.parametrize("where", ["maps", "attention"])
def test_the_head_learns_from_each_of_its_two_inputs(where: str) -> None:
    rng = np.random.default_rng(0)
    train, val, test = (features(rng, n, where=where) for n in (480, 60, 120))
    model, history = fit_feranno(train, val, classes=CLASSES, width=32, epochs=5, batch_size=32, learning_rate=4e-3, seed=1)
    assert len(history) == 5
    assert (predict_feranno(model, test).argmax(axis=1) == test.labels).mean() > 0.85


def test_training_is_repeatable_and_returns_the_best_epoch() -> None:
    rng = np.random.default_rng(1)
    train, val = features(rng, 120), features(rng, 45)
    seen: list[int] = []
    first, history = fit_feranno(train, val, classes=CLASSES, width=16, epochs=4, seed=3, on_epoch=lambda epoch, _: seen.append(epoch))
    torch.rand(5)  # the caller's generator must not matter
    again, _ = fit_feranno(train, val, classes=CLASSES, width=16, epochs=4, seed=3)
    logits = predict_feranno(first, val)
    recalls = [(logits.argmax(axis=1) == val.labels)[val.labels == label].mean() for label in range(3)]
    assert np.array_equal(logits, predict_feranno(again, val))
    assert np.mean(recalls) == pytest.approx(max(epoch["val_uar"] for epoch in history))
    assert seen == [0, 1, 2, 3]


def test_a_saved_head_answers_the_same_whatever_the_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    model, _ = fit_feranno(features(rng, 90), features(rng, 30), classes=CLASSES, width=16, epochs=1)
    save_feranno(model, tmp_path, {"timestep": 10})
    loaded, card = load_feranno(tmp_path)
    data = features(rng, 20)
    assert np.array_equal(predict_feranno(model, data), predict_feranno(loaded, data))
    assert predict_feranno(loaded, data, batch_size=3) == pytest.approx(predict_feranno(loaded, data), abs=1e-5)
    assert card["timestep"] == 10
    assert loaded.shape.classes == CLASSES


def test_the_au_head_reads_known_units_beside_the_expression_and_is_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    train, val, test = (with_aus(rng, features(rng, n)) for n in (480, 60, 120))
    model, _ = fit_feranno(train, val, classes=CLASSES, width=32, epochs=6, batch_size=32, learning_rate=4e-3, seed=1)
    assert model.shape.aus == ("26", "L12", "R12")  # 43 never varies, nothing is known of the others
    assert (predict_feranno(model, test).argmax(axis=1) == test.labels).mean() > 0.85
    seen = predict_aus(model, test)
    assert test.aus is not None
    known = slice(0, len(test) // 2)
    assert np.corrcoef(seen[known, AU_INDEX["26"]], test.aus[known, AU_INDEX["26"]])[0, 1] > 0.8
    assert np.corrcoef(left_right(seen, "12")[0], left_right(test.aus, "12")[0])[0, 1] > 0.8
    assert np.isnan(seen[:, AU_INDEX["43"]]).all()
    assert (seen[:, AU_INDEX["26"]] >= 0).all()
    save_feranno(model, tmp_path, {})
    loaded, _ = load_feranno(tmp_path)
    assert np.array_equal(predict_aus(loaded, test), seen, equal_nan=True)


def test_without_aus_there_is_no_au_head_and_saved_heads_without_one_load(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    data = features(rng, 60)
    nothing_known = replace(data, aus=np.full((60, AU_COUNT), np.nan, dtype=np.float32))
    plain, _ = fit_feranno(data, data, classes=CLASSES, width=16, epochs=1)
    unlabelled, _ = fit_feranno(nothing_known, data, classes=CLASSES, width=16, epochs=1)
    off, _ = fit_feranno(with_aus(rng, features(rng, 60)), data, classes=CLASSES, width=16, epochs=1, au_weight=0.0)
    assert plain.shape.aus == unlabelled.shape.aus == off.shape.aus == ()
    assert np.array_equal(predict_feranno(plain, data), predict_feranno(unlabelled, data))
    assert np.isnan(predict_aus(plain, data)).all()
    save_feranno(plain, tmp_path, {})
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    del card["shape"]["aus"]  # as before there was an AU head
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert np.array_equal(predict_feranno(load_feranno(tmp_path)[0], data), predict_feranno(plain, data))


def test_the_scale_of_the_features_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    data = features(rng, 40)
    maps, attention = data.rows(np.arange(40), "cpu")
    torch.manual_seed(0)
    model = Feranno(FerannoShape(CHANNELS, WORDS, CLASSES, 16)).eval()
    model.requires_grad_(False).measure(maps, attention)
    logits = model(maps, attention)
    model.measure([100 * m + 3 for m in maps], attention / 50)
    assert model([100 * m + 3 for m in maps], attention / 50) == pytest.approx(logits, abs=1e-3)


def test_large_maps_are_pooled_and_small_ones_kept() -> None:
    assert pool_map(torch.ones(1, 2, 64, 64)).shape == (1, 2, 8, 8)
    assert pool_map(torch.ones(1, 2, 4, 4)).shape == (1, 2, 4, 4)


def test_strange_features_and_changed_files_are_refused(tmp_path: Path) -> None:
    model = Feranno(FerannoShape(CHANNELS, WORDS, CLASSES, 16))
    with pytest.raises(AnnotationError, match=r"this head was built for \(\(16, 16, 8\), 3\)"):
        model([torch.zeros(1, 16, 4, 4)], torch.zeros(1, WORDS, 8, 8))
    save_feranno(model, tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(b"else")
    with pytest.raises(AnnotationError, match="its card says"):
        load_feranno(tmp_path)
    with pytest.raises(AnnotationError, match="equally many"):
        FeatureSet([np.zeros((3, 1, 2, 2))], np.zeros((2, 1, 2, 2)), np.zeros(3))
