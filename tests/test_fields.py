"""Attention output fields as images: overlaps against numpy, fields against a loop, planted pictures."""

import numpy as np
import pytest
import torch

from nodelens.data import ImageSet, load_images, normalisation_of, normalise
from nodelens.errors import InputError
from nodelens.heads.accuracies import head_sites
from nodelens.heads.fields import attention_fields, field_overlap, field_overlaps, head_fields, luminance, others
from nodelens.networks import CCT, reading


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits", "test").take(torch.arange(50), "test-50")


def test_overlap_is_pearson_s_correlation_without_its_sign() -> None:
    generator = torch.Generator().manual_seed(0)
    fields, pictures = torch.randn(5, 3, 4, 4, generator=generator), torch.randn(5, 4, 4, generator=generator)
    found = field_overlap(fields, pictures)
    for image in range(5):
        for view in range(3):
            r = np.corrcoef(fields[image, view].flatten().numpy(), pictures[image].flatten().numpy())[0, 1]
            assert float(found[image, view]) == pytest.approx(abs(r), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_field_or_picture_overlaps_with_nothing(value: float) -> None:
    constant, varied = torch.full((1, 1, 3, 3), value), torch.arange(9.0).reshape(1, 1, 3, 3)
    assert field_overlap(constant, varied[:, 0]).tolist() == [[0.0]]
    assert field_overlap(varied, constant[:, 0]).tolist() == [[0.0]]


def test_luminance_weighs_colours_and_averages_each_cell() -> None:
    pixels = torch.randint(0, 256, (3, 8, 8, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    grey = pixels.double().numpy() @ np.array([0.299, 0.587, 0.114])
    expected = grey.reshape(3, 4, 2, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(luminance(pixels, 4).numpy(), expected, rtol=1e-5)
    assert torch.equal(luminance(pixels[..., :1], 8), pixels[..., 0].float())


def test_fields_are_means_over_each_head_s_nodes(cct: CCT, digits: ImageSet) -> None:
    site, normalisation = head_sites(cct)[1], normalisation_of(digits)
    found = attention_fields(cct, site, digits, normalisation, batch_size=16)
    read: dict[str, torch.Tensor] = {}
    inputs = normalise(digits.batch(np.arange(50)), normalisation.mean, normalisation.std)
    with torch.no_grad(), reading(cct, [site], read.__setitem__):
        cct(inputs)
    activations = read[site.name]
    side, size = cct.config.grid, site.nodes // site.heads
    assert found.shape == (50, site.heads, side, side)
    for head in range(site.heads):
        for row in range(side):
            for column in range(side):
                own = activations[:, row * side + column, head * size : (head + 1) * size]
                torch.testing.assert_close(found[:, head, row, column], own.mean(dim=1), rtol=1e-4, atol=1e-5)


def test_overlaps_of_a_split_against_its_fields(cct: CCT, digits: ImageSet) -> None:
    sites, normalisation = head_sites(cct), normalisation_of(digits)
    found = field_overlaps(cct, sites, digits, normalisation, batch_size=16)
    pictures = luminance(digits.batch(np.arange(50)), cct.config.grid)
    another = pictures[others(50, 0)]
    logits = cct(normalise(digits.batch(np.arange(50)), normalisation.mean, normalisation.std))
    for site in sites:
        fields = attention_fields(cct, site, digits, normalisation)
        views = torch.cat([fields.mean(dim=1, keepdim=True), fields], dim=1)
        for pictures_compared, overlap in ((pictures, found[site.name].overlap), (another, found[site.name].by_chance)):
            torch.testing.assert_close(overlap.double(), field_overlap(views, pictures_compared).T, atol=1e-4, rtol=0)
        assert torch.equal(found[site.name].correct, logits.argmax(dim=1) == digits.labels)


def test_every_image_is_compared_with_another_one() -> None:
    for images in (2, 3, 50):
        found = others(images, seed=1)
        assert sorted(found.tolist()) == list(range(images))
        assert not bool((found == torch.arange(images)).any())


def test_tokens_that_form_no_square_are_refused(cct: CCT) -> None:
    with pytest.raises(InputError, match=r"block\.1\.attention has 15 tokens, which are no square image"):
        head_fields(torch.zeros(2, 15, 16), head_sites(cct)[0])
