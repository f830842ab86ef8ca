"""Views: every image has its own, a crop keeps the share it must, and sides stay sides where they are asked to."""

import pytest
import torch

from synfer.classifiers.views import MILD, RATIO, Views, view


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(count: int, side: int = 32) -> torch.Tensor:
    """Images whose red is the column and whose green is the row, in [-1, 1]."""
    line = (torch.arange(side) * 2 + 1) / side - 1
    return torch.stack([line.expand(side, -1), line[:, None].expand(-1, side), torch.zeros(side, side)]).expand(count, -1, -1, -1)


@pytest.mark.parametrize("side", [24, 64, 97])
def test_a_view_has_the_shape_and_range_of_its_image(side: int) -> None:
    images = torch.rand(16, 3, side, side, generator=seeded()) * 2 - 1
    found = view(images, seeded(), Views(blur=1.0))
    assert found.shape == images.shape
    assert found.abs().max() <= 1


def test_one_seed_gives_one_view_and_every_image_of_a_batch_its_own() -> None:
    images = (torch.rand(1, 3, 32, 32, generator=seeded()) * 2 - 1).expand(8, -1, -1, -1)
    first = view(images, seeded(1), Views())
    assert torch.equal(first, view(images, seeded(1), Views()))
    assert not torch.equal(first, view(images, seeded(2), Views()))
    assert all(not torch.allclose(first[0], other) for other in first[1:])


@pytest.mark.parametrize("crop", [0.3, 0.7])
def test_a_crop_keeps_its_share_of_the_area_and_about_its_proportions(crop: int) -> None:
    found = view(places(400), seeded(), Views(crop=crop, light=0, grey=0, blur=0))
    spans = [found[:, channel].flatten(1).amax(1) - found[:, channel].flatten(1).amin(1) for channel in (0, 1)]
    width, height = (span / (2 - 2 / 32) for span in spans)
    area = width * height
    assert area.min() > crop - 0.03
    assert area.min() < crop + 0.05
    assert area.max() > 0.95
    assert ((width / height).log().abs() < torch.tensor(RATIO).log() + 0.02).all()


def test_half_of_the_views_are_mirrored_and_none_where_sides_matter() -> None:
    def mirrored(views: Views) -> float:
        found = view(places(400), seeded(), views)[:, 0]
        return float((found[:, :, 0] > found[:, :, -1]).any(1).float().mean())

    assert 0.4 < mirrored(MILD) < 0.6
    assert mirrored(Views(light=0, grey=0, blur=0, flip=False)) == 0


def test_grey_views_have_no_colour_and_light_alone_moves_nothing() -> None:
    images = torch.rand(8, 3, 32, 32, generator=seeded()) * 2 - 1
    grey = view(images, seeded(), Views(grey=1.0))
    assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-6)
    edge = torch.where(places(8)[:, :1] < 0, -0.5, 0.5).expand(-1, 3, -1, -1)
    lit = view(edge, seeded(), Views(crop=1.0, grey=0, blur=0, flip=False))
    assert (lit[:, 0].diff(dim=2).abs().flatten(1) > 0.05).sum(1).max() <= 2 * 32  # only where the one edge is
