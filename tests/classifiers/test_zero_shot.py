"""Image-text training: a toy pairing is learned and read back by prompts, equal captions are no mistake, folders and resume are exact."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from synfer.classifiers.backbones import ClassifierError
from synfer.classifiers.image_text import (
    END,
    PAD,
    START,
    ImageText,
    caption_tokenizer,
    load_image_text,
    pair_loss,
    save_image_text,
    token_numbers,
)
from synfer.classifiers.loop import Schedule
from synfer.classifiers.zero_shot import fit_image_text

COLOURS = ("red", "green", "blue")
PROMPTS = {name: [f"a photo with {name} light", f"a picture in {name} light"] for name in COLOURS}


def coloured(count: int, *, seed: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Noise in one of three tints, captions that name the tint among other words, and the tint's number."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.integers(0, 160, (count, 32, 32, 3))
    images[np.arange(count), :, :, labels] += 60
    words = [
        f"a {size} picture with {COLOURS[label]} light" for size, label in zip(np.resize(["small", "big"], count), labels, strict=True)
    ]
    return images.astype(np.uint8), words, labels


def short_tokenizer(captions: list[str]) -> Tokenizer:
    return caption_tokenizer(captions, vocabulary_size=320, length=24)


def test_a_toy_pairing_is_learned_and_classified_by_prompts() -> None:
    images, captions, _ = coloured(120, seed=0)
    schedule = Schedule(epochs=6, batch_size=20, learning_rate=2e-3)
    model = fit_image_text(images, captions, backbone="test_vit", schedule=schedule, tokenizer=short_tokenizer(captions))
    test, _, truth = coloured(60, seed=1)
    found = model.probabilities(test, PROMPTS)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == truth).mean() > 0.9
    backwards = model.probabilities(test, dict(reversed(PROMPTS.items())))
    assert np.allclose(backwards[:, ::-1], found, atol=1e-5)  # classes come in the order of the prompts


def test_an_untrained_model_is_at_chance() -> None:
    images, captions, truth = coloured(90, seed=1)
    model = ImageText("test_vit", short_tokenizer(captions), image_size=32)
    found = [ImageText("test_vit", model.tokenizer, image_size=32, seed=seed).probabilities(images, PROMPTS).argmax(1) for seed in range(5)]
    assert np.mean([(guess == truth).mean() for guess in found]) == pytest.approx(1 / 3, abs=0.2)


def test_the_pair_loss_is_clips_and_equal_captions_share_the_target() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    for groups in ([0, 1, 2, 3], [0, 1, 0, 3]):
        total = 0.0
        for table in (logits, logits.T):
            for i in range(4):
                likely = [math.exp(float(value)) for value in table[i]]
                own = [j for j in range(4) if groups[j] == groups[i]]
                total -= sum(math.log(likely[j] / sum(likely)) for j in own) / len(own)
        alike = torch.tensor([[one == other for other in groups] for one in groups])
        assert float(pair_loss(logits, alike)) == pytest.approx(total / 8, rel=1e-5)


def test_the_tokenizer_spells_any_text_and_keeps_one_length() -> None:
    tokenizer = short_tokenizer(["a happy face", "a sad face"])
    tokens = token_numbers(tokenizer, ["A HAPPY face", "a happy face", "Schöner Ärger!", "word " * 100])
    assert tokens.shape == (4, 24)
    assert torch.equal(tokens[0], tokens[1])
    start, end, pad = (tokenizer.token_to_id(token) for token in (START, END, PAD))
    assert (tokens[:, 0] == start).all()
    assert ((tokens == end).sum(1) == 1).all()
    assert (tokens[0, -1], tokens[3, -1]) == (pad, end)
    assert tokenizer.decode(tokens[2].tolist()).strip() == "schöner ärger!"


def test_padding_and_company_do_not_change_an_embedding() -> None:
    model = ImageText("test_vit", short_tokenizer(["a happy face"]), image_size=32).eval()
    texts = ["a happy face", "a much longer text"]
    together = model.embed_tokens(model.tokens(texts))
    assert torch.allclose(together[:1], model.embed_tokens(model.tokens(texts[:1])), atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(2))


def test_saved_and_loaded_is_the_same_model_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    images, captions, _ = coloured(6, seed=0)
    model = ImageText("test_vit", short_tokenizer(captions), image_size=32, seed=3).eval()
    digest = save_image_text(model, tmp_path, {"note": "kept"})
    assert len(digest) == 64
    assert np.allclose(load_image_text(tmp_path).probabilities(images, PROMPTS), model.probabilities(images, PROMPTS), atol=1e-6)
    (tmp_path / "tokenizer.json").write_text(short_tokenizer(["other words"]).to_str())
    with pytest.raises(ClassifierError, match=r"tokenizer\.json has sha256"):
        load_image_text(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ClassifierError, match="does not exist"):
        load_image_text(tmp_path)


def test_a_killed_training_resumes_to_the_same_model_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    images, captions, truth = coloured(45, seed=0)
    settings: dict[str, Any] = {
        "backbone": "test_vit",
        "schedule": Schedule(epochs=3, batch_size=15),
        "tokenizer": short_tokenizer(captions),
    }

    def score(model: ImageText) -> dict[str, float]:
        return {"val_accuracy": float((model.probabilities(images, PROMPTS).argmax(1) == truth).mean())}

    def kill(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 0:
            raise KeyboardInterrupt

    history: list[dict[str, float]] = []
    whole = fit_image_text(images, captions, **settings, score=score, on_epoch=lambda _, metrics: history.append(metrics))
    with pytest.raises(KeyboardInterrupt):
        fit_image_text(images, captions, **settings, score=score, checkpoint=tmp_path / "checkpoint", on_epoch=kill)
    resumed = fit_image_text(images, captions, **settings, score=score, checkpoint=tmp_path / "checkpoint")
    assert np.array_equal(whole.probabilities(images, PROMPTS), resumed.probabilities(images, PROMPTS))
    assert score(whole)["val_accuracy"] == max(metrics["val_accuracy"] for metrics in history)


def test_what_does_not_fit_says_so() -> None:
    images, captions, _ = coloured(6, seed=0)
    with pytest.raises(ClassifierError, match="a caption an image and two of them at least, found 6 and 5"):
        fit_image_text(images, captions[:5], backbone="test_vit", schedule=Schedule(epochs=1))
    model = ImageText("test_vit", short_tokenizer(captions), image_size=32)
    with pytest.raises(ClassifierError, match="every class needs a prompt; fear has none"):
        model.probabilities(images, {"anger": ["an angry face"], "fear": []})
    with pytest.raises(ClassifierError, match="the tokenizer must know"):
        ImageText("test_vit", Tokenizer.from_str(model.tokenizer.to_str().replace(PAD, "<|nothing|>")), image_size=32)
