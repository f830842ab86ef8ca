"""Which guide steers: the backbone's own or a classifier of pixels; a missing one is told before a face is drawn."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from components.guidance import check_adapter, check_guidance, guide_probabilities, semantic_guidance, steered_by, write_steering
from components.plan import plan_faces
from components.synthesis import draw_faces, run
from synfer.classifiers.models import create, load, save
from synfer.diffusion.au_adapter import AdapterError, attach_au_adapter
from synfer.diffusion.backbone import load_backbone
from synfer.diffusion.latent_guide import GUIDE, LatentGuideError
from synfer.vocabulary import AU_COUNT, DEFAULT_EXPRESSIONS


@pytest.fixture(scope="module")
def backbone(world):
    return load_backbone(world.stage("generator") / "backbone").requires_grad_(False)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fer_models") / "guide"
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), folder, {"trained_on": {"images": 0, "identities": []}})
    return load(folder)


@pytest.fixture
def section(settings):
    changes = {"guidance_form": "latent", "images": 7, "num_inference_steps": 3, "guidance_window": (0.0, 1.0)}
    return settings.synthesis.model_copy(update=changes)


def test_the_latent_form_asks_the_backbones_guide_and_the_published_one_the_classifier(section, backbone, classifier):
    latent, classes = semantic_guidance(section, backbone, classifier)
    assert (latent.classify, classes) == (backbone.guide, backbone.guide.classes)
    assert not latent.second_forward
    published, _ = semantic_guidance(section.model_copy(update={"guidance_form": "published"}), backbone, classifier)
    assert (published.every, published.confidence, published.second_forward) == (1, 1.0, True)


@pytest.mark.parametrize("form", ["latent", "published"])
def test_either_form_changes_the_faces(section, backbone, classifier, form):
    rows = plan_faces(3, expressions=DEFAULT_EXPRESSIONS, seed=1)
    steered = section.model_copy(update={"guidance_form": form, "semantic_guidance": 0.5})
    assert (draw_faces(steered, backbone, classifier, rows) != draw_faces(section, backbone, None, rows)).any()


def test_without_a_latent_guide_the_stage_stops_before_it_draws_and_names_the_ways_out(world, section, settings, classifier, tmp_path):
    generator, fer_models, out = (tmp_path / name for name in ("generator", "fer_models", "out"))
    source = world.stage("generator") / "backbone"
    (generator / "backbone").mkdir(parents=True)
    for part in source.iterdir():
        if part.name != GUIDE:
            (generator / "backbone" / part.name).symlink_to(part)
    save(classifier.module, fer_models / "guide", classifier.card)
    out.mkdir()
    with pytest.raises(LatentGuideError, match=r"generator.guide_steps=\d+.*synthesis.guidance_form=published.*semantic_guidance=0"):
        run(section, settings.common, development=world.stage("corpus"), generator=generator, fer_models=fer_models, out=out)
    assert not list(out.iterdir())


def test_other_settings_need_no_latent_guide(section, backbone, classifier):
    bare = replace(backbone, guide=None)
    for change in ({"guidance_form": "published"}, {"semantic_guidance": 0.0}):
        check_guidance(section.model_copy(update=change), bare, classifier, DEFAULT_EXPRESSIONS)


def test_an_expression_that_the_guide_cannot_tell_is_named(section, backbone, classifier):
    with pytest.raises(LatentGuideError, match="unknown class of the latent guide 'contempt'"):
        check_guidance(section, backbone, classifier, [*DEFAULT_EXPRESSIONS, "contempt"])


def test_an_adapter_that_was_never_trained_is_told_where_action_units_are_asked(section, backbone):
    unet = copy.deepcopy(backbone.unet)
    untrained = replace(backbone, unet=unet, au_adapter=attach_au_adapter(unet, silent=True))
    asked, nothing = np.zeros((2, AU_COUNT)), np.full((2, AU_COUNT), np.nan)
    with pytest.raises(AdapterError, match=r"generator.adapt=adapter.*synthesis.au_guidance_scale=0"):
        check_adapter(section, untrained, asked)
    check_adapter(section, untrained, nothing)
    check_adapter(section.model_copy(update={"au_guidance_scale": 0.0}), untrained, asked)
    check_adapter(section, backbone, asked)


def test_the_guides_verdict_on_finished_faces_follows_the_wanted_order_of_classes(backbone):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found = guide_probabilities(backbone, images, DEFAULT_EXPRESSIONS, batch_size=2)
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    backwards = guide_probabilities(backbone, images, DEFAULT_EXPRESSIONS[::-1])
    assert backwards == pytest.approx(found[:, ::-1], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "form"), [({}, "latent"), ({"guidance_form": "published"}, "published"), ({"semantic_guidance": 0.0}, "none")]
)
def test_a_folder_of_faces_says_who_steered(section, backbone, classifier, tmp_path, change, form):
    write_steering(section.model_copy(update=change), backbone, classifier, tmp_path)
    assert steered_by(tmp_path) == form
