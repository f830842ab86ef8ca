"""Configuration, captions, whole files and seeds."""

import numpy as np
import pytest
import torch

from synfer.captions import EXPRESSION_WORDS, caption, mirror_caption, vocabulary_corpus
from synfer.config import Config, ConfigError, deep_merge, load_config, parse_override, validate
from synfer.diffusion.tiny_sd import grammar_tokenizer
from synfer.files import replace_folder, sha256, whole_file
from synfer.seeding import derive_seed, randn
from synfer.vocabulary import ATTRIBUTES, COMPOUNDS, EXPRESSIONS, VocabularyError, au_vector, flip_aus


def test_overlays_then_overrides_win(tmp_path):
    (tmp_path / "params.yaml").write_text("synthesis: {images: 10, batch_size: 5}\n")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "more.yaml").write_text("synthesis: {images: 20}\n")
    config = load_config(tmp_path / "params.yaml", overlays=["more"], overrides=["common.seed=7", "feranno.epochs=3"])
    assert (config.synthesis.images, config.synthesis.batch_size, config.common.seed, config.feranno.epochs) == (20, 5, 7, 3)
    with pytest.raises(ConfigError, match=r"unknown overlay 'mor'.*did you mean 'more'"):
        load_config(tmp_path / "params.yaml", overlays=["mor"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"synthesis": {"imges": 1}}, "did you mean 'synthesis.images'"),
        ({"sythesis": {}}, "unknown key 'sythesis'"),
        ({"synthesis": {"images": 0}}, "synthesis.images = 0: must be greater than or equal to 1"),
        ({"synthesis": {"images": "abc"}}, "synthesis.images = 'abc': must be a whole number"),
        ({"synthesis": {"cfg_interval": [0.6, 0.2]}}, r"synthesis.cfg_interval = \[0.6, 0.2\]: .*begins after it ends"),
        ({"common": {"expressions": ["joy"]}}, "unknown expression 'joy'"),
    ],
)
def test_a_wrong_value_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        validate(values)


def test_merging_is_deep_and_leaves_its_inputs_alone():
    base = {"a": {"b": 1, "c": 2}}
    assert deep_merge(base, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}
    assert parse_override("a.b=[1, 2]") == {"a": {"b": [1, 2]}}
    with pytest.raises(ConfigError, match=r"not SECTION\.KEY=VALUE"):
        parse_override("a.b")


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().common.seed = 3


def test_a_caption_names_person_expression_and_strongest_aus():
    person = {"sex": "man", "age": "elderly", "hair_style": "short", "hair_color": "grey", "facial_hair": "beard", "glasses": "glasses"}
    text = caption("anger", attributes=person, aus=au_vector({"4": 4, "L2": 3, "12": 0.5}))
    wanted = "a photo of an elderly man with short grey hair, a beard and glasses, angry expression, lowered brows, left raised outer brows"
    assert text == wanted
    assert caption("happily surprised") == "a photo of a person, happily surprised expression"
    with pytest.raises(VocabularyError, match="unknown expression"):
        caption("joy")


def test_the_mirrored_caption_names_the_other_side():
    aus = au_vector({"L12": 4, "R2": 3})
    assert mirror_caption(caption("", aus=aus)) == caption("", aus=flip_aus(aus))
    assert mirror_caption("a photo of a bright leftover") == "a photo of a bright leftover"
    assert mirror_caption("Left eye closed. Right brow raised, RIGHT") == "Right eye closed. Left brow raised, LEFT"


def test_captions_are_deterministic_given_their_generator():
    person = {name: values[0] for name, values in ATTRIBUTES.items()}
    one, two = (caption("fear", attributes=person, rng=np.random.default_rng(5)) for _ in range(2))
    assert one == two


def test_the_longest_caption_fits_the_tokenizer():
    tokenizer = grammar_tokenizer(vocabulary_corpus())
    person = {name: max(values, key=len) for name, values in ATTRIBUTES.items()}
    aus = au_vector({"L12": 4, "15": 4, "L2": 4})
    for expression in (*EXPRESSIONS, *COMPOUNDS):
        assert len(tokenizer(caption(expression, attributes=person, aus=aus)).input_ids) <= tokenizer.model_max_length
    for word in EXPRESSION_WORDS.values():
        assert tokenizer.decode(tokenizer(word).input_ids, skip_special_tokens=True).strip() == word


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way():
        with whole_file(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole_and_hashed_by_names_and_bytes(tmp_path):
    for name, text in (("old", "1"), ("new", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    before = sha256(tmp_path / "new")
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "2"
    assert sha256(tmp_path / "old") == before
    (tmp_path / "old" / "file").rename(tmp_path / "old" / "other")
    assert sha256(tmp_path / "old") != before


def test_noise_belongs_to_its_seed_alone():
    assert torch.equal(randn((2, 3), [5, 6])[1], randn((2, 3), [6])[0])
    assert derive_seed("a", 1) != derive_seed("a", 2) != derive_seed("b", 2)
    assert 0 <= derive_seed("x") < 2**63
