"""Captioners: the grammar, and real transformers models of tiny size on the real pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synfer.captions import row_captions, vocabulary_corpus, with_expression
from synfer.descriptions.captioners import PREFIX, CaptionerError, GrammarCaptioner, ModelCaptioner
from synfer.diffusion.tiny_sd import grammar_tokenizer
from synfer.vocabulary import AU_COUNT, AU_INDEX


@pytest.fixture
def images() -> list[np.ndarray]:
    """Faces of different sizes, as a corpus may have them."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (64, 48, 64, 40)]


@pytest.fixture
def rows() -> pd.DataFrame:
    frame = pd.DataFrame({"sample_id": list("abcd"), "expression": ["happiness", "", "anger", "fear"], "caption": ""})
    return frame.assign(aus=[np.full(AU_COUNT, np.nan, dtype=np.float32)] * 4)


def test_a_model_that_continues_a_text_captions_every_image(blip: Path, images: list[np.ndarray], rows: pd.DataFrame) -> None:
    captions = ModelCaptioner(str(blip), max_new_tokens=6)(images, rows)
    assert captions[1].startswith(PREFIX)
    assert len(set(captions)) == 4, "the words come from the image"
    for caption, words in zip(captions[2:], ("angry", "fearful"), strict=True):
        assert caption.startswith(f"{words} expression, {PREFIX}")
    assert "expression" not in captions[1]


def test_a_caption_does_not_depend_on_its_batch(blip: Path, images: list[np.ndarray], rows: pd.DataFrame) -> None:
    captioner = ModelCaptioner(str(blip), max_new_tokens=6)
    assert captioner(images[1:2], rows.iloc[1:2]) == captioner(images, rows)[1:2]
    assert captioner([], rows.iloc[:0]) == []


@pytest.mark.parametrize("kind", ["blip", "llava"])
def test_images_go_through_a_model_in_batches_and_get_the_captions_that_they_get_alone(
    kind: str, request: pytest.FixtureRequest, images: list[np.ndarray], rows: pd.DataFrame
) -> None:
    folder = str(request.getfixturevalue(kind))
    alone = [ModelCaptioner(folder, max_new_tokens=6, batch_size=1)([image], rows[i : i + 1])[0] for i, image in enumerate(images)]
    captioner, taken = ModelCaptioner(folder, max_new_tokens=6, batch_size=3), []
    (sees,) = (module for name, module in captioner._pipeline.model.named_modules() if name.endswith("patch_embedding"))
    sees.register_forward_hook(lambda module, inputs, output: taken.append(len(output)))
    assert captioner(images, rows) == alone
    assert taken == [3, 1]


def test_the_prompt_is_how_captions_begin(blip: Path, images: list[np.ndarray], rows: pd.DataFrame) -> None:
    (caption,) = ModelCaptioner(str(blip), prompt="a young woman", max_new_tokens=3)(images[:1], rows[:1])
    assert caption.startswith("happy expression, a young woman ")


def test_a_model_that_chats_answers_for_every_image(llava: Path, images: list[np.ndarray], rows: pd.DataFrame) -> None:
    captioner = ModelCaptioner(str(llava), max_new_tokens=6)
    captions = captioner(images, rows)
    assert len(set(captions)) >= 3
    assert not any("describe" in caption.lower() for caption in captions), "the question is not part of the answer"
    assert captions == captioner(images, rows)


@pytest.mark.parametrize("name", ["models/nowhere", "folder"])
def test_a_model_that_is_not_there_is_named_with_what_would_help(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    model = str(tmp_path / name) if name == "folder" else name
    with pytest.raises(CaptionerError, match=f"captioner {model} cannot be loaded; give a folder, .* HF_HUB_OFFLINE=0"):
        ModelCaptioner(model)


def test_the_grammar_names_what_the_manifest_knows(rows: pd.DataFrame) -> None:
    partly = np.full(AU_COUNT, np.nan, dtype=np.float32)
    partly[AU_INDEX["43"]] = 4.0
    known = rows.assign(aus=[partly] * 4, attr_sex="man")
    captions = [caption for seed in range(8) for caption in GrammarCaptioner(seed)([], known)]
    assert any("closed eyes" in caption for caption in captions), "one known AU is enough"
    assert any(caption.startswith("a photo of a man") for caption in captions)
    assert row_captions(known.iloc[2:], seed=3) == GrammarCaptioner(3)([], known)[2:], "a row's caption is its own"


@pytest.mark.parametrize(
    ("text", "expression", "expected"),
    [
        ("a woman smiling.", "happiness", "happy expression, a woman smiling"),
        ("a man with an unhappy expression", "happiness", "happy expression, a man with an unhappy expression"),
        ("a woman, happy expressions", "happiness", "happy expression, a woman, happy expressions"),
        ("a woman with long hair and a happy expression", "happiness", None),
        ("A man with a Sad Expression", "sadness", None),
        ("a man", "", None),
        ("", "fear", "fearful expression"),
    ],
)
def test_the_label_is_named_once(text: str, expression: str, expected: str | None) -> None:
    assert with_expression(text, expression) == (text if expected is None else expected)


@pytest.mark.parametrize("said", ["", ", and all of this with a surprised expression"])
def test_a_text_encoder_reads_the_label_of_a_long_caption(said: str) -> None:
    tokenizer = grammar_tokenizer(vocabulary_corpus())
    text = "The photograph presents a middle-aged gentleman whose spectacles reflect an overcast sky behind a parked vehicle" + said
    kept = tokenizer(with_expression(text, "surprise"), truncation=True, max_length=tokenizer.model_max_length).input_ids
    assert len(kept) == tokenizer.model_max_length, "something is cut"
    assert "surprised expression" in tokenizer.decode(kept)
