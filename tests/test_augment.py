"""Augmentation against torchvision, timm and Pillow on the same parameters, and against its distributions."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop

from nodelens.data.augment import Augmentation, augment, draw_erasures, erase, mix, normalise
from nodelens.data.crops import (
    draw_crops,
    draw_flips,
    draw_shifts,
    resize_boxes,
    shift_and_flip,
)
from nodelens.data.draws import Draws, draws_of
from nodelens.data.mixing import MixDraw, draw_mix, draw_shares, kept_pixels, mix_batches
from nodelens.data.part import Part, whole
from nodelens.data.randaugment import Operation, RandAugmentDraw, draw_rand_augment, rand_augment
from nodelens.errors import InputError
from nodelens.replay import nothing_waits

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
FILL = (125, 10, 200)
RECIPE = Augmentation(resized_crop=(0.8, 1.0), rand_augment=9.0, erase=0.25, mixup=0.8, cutmix=1.0)
EVERYTHING_BUT_RESIZED = Augmentation(crop_padding=2, rand_augment=9.0, erase=0.5)

sizes = st.tuples(st.integers(1, 4), st.integers(3, 13), st.integers(3, 13), st.sampled_from([1, 3]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(images: int, seed: int = 0) -> Draws:
    """Of one batch."""
    return draws_of(seeded(seed), images)


def noise_images(batch: int, height: int, width: int, channel: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (batch, height, width, channel), dtype=torch.uint8, generator=seeded(seed))


def smooth_images(batch: int, height: int, width: int) -> Tensor:
    """Colour images that vary slowly, so that no resampling leaves the range of grey levels."""
    coarse = 60 + 130 * torch.rand(batch, 3, 4, 4, generator=seeded(5))
    fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return fine.round().to(torch.uint8).permute(0, 2, 3, 1)


def channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).contiguous()


def on_pillow(images: Tensor, change) -> Tensor:
    """Apply a function of Pillow images to each of uint8 NHWC images; channels first."""
    changed = [np.array(change(Image.fromarray(image.numpy()))) for image in images]
    return channels_first(torch.from_numpy(np.stack(changed)))


def apply(operation: Operation, images: Tensor, level: float, sign: int) -> Tensor:
    """One operation on all images (uint8 NHWC)."""
    count, channel = len(images), images.shape[3]
    draw = RandAugmentDraw(
        torch.full((count,), int(operation)),
        torch.full((count,), level),
        torch.full((count,), float(sign)),
    )
    fill = torch.tensor(FILL[:channel], dtype=torch.float32).view(1, -1, 1, 1)
    return rand_augment(channels_first(images).float(), draw, fill)


def assert_levels_close(actual: Tensor, expected: Tensor, within: float = 1, equal_share: float = 0.999):
    """Never further apart than ``within`` grey levels, and equal in at least a share of the pixels."""
    difference = (actual - expected.float()).abs()
    assert difference.max() <= within
    assert (difference == 0).float().mean() >= equal_share


# Normalisation and the configuration


def test_normalise_agrees_with_torchvision():
    images = noise_images(4, 7, 5, 3)
    expected = tv.normalize(tv.to_dtype(channels_first(images), torch.float32, scale=True), MEAN, STD)
    actual = normalise(images, MEAN, STD)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    assert actual.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,)), (MEAN, STD[:2]), (MEAN, (0.2, 0.0, 0.2)), ((), ())])
def test_normalise_rejects_statistics_that_do_not_fit(mean, std):
    with pytest.raises(InputError, match="3 channels"):
        normalise(noise_images(1, 4, 4, 3), mean, std)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", -0.1),
        ("flip", 1.1),
        ("flip", math.nan),
        ("erase", 2.0),
        ("mix_probability", 1.5),
        ("crop_padding", -1),
        ("rand_augment", 11.0),
        ("rand_augment_std", -1.0),
        ("rand_augment_std", math.inf),
        ("rand_augment_ops", 0),
        ("mixup", -0.5),
        ("cutmix", math.inf),
        ("resized_crop", (0.0, 1.0)),
        ("resized_crop", (0.9, 0.8)),
        ("resized_crop", (0.5, 1.2)),
    ],
)
def test_augmentation_names_the_value_that_is_out_of_range(name, value):
    with pytest.raises(InputError, match=name):
        Augmentation(**{name: value})


def test_augmentation_rejects_two_kinds_of_crop():
    with pytest.raises(InputError, match="choose one"):
        Augmentation(crop_padding=4, resized_crop=(0.8, 1.0))


def test_augment_rejects_images_that_do_not_fit():
    with pytest.raises(InputError, match="crop_padding is 5"):
        augment(noise_images(1, 5, 9, 3), Augmentation(crop_padding=5), MEAN, STD, draws(1))
    with pytest.raises(InputError, match="1 or 3 channels"):
        augment(noise_images(1, 5, 9, 2), Augmentation(rand_augment=9.0), MEAN[:2], STD[:2], draws(1))


# Flips and shifted crops


@given(sizes, st.data())
@settings(max_examples=40)
def test_shift_and_flip_is_reflection_padding_slicing_and_mirroring(size, data):
    batch, height, width, _ = size
    padding = data.draw(st.integers(0, min(height, width) - 1))
    images, flips = noise_images(*size), draw_flips(0.5, draws(batch, 1))
    shifts = draw_shifts(padding, draws(batch, 2))
    padded = F.pad(channels_first(images).float(), [padding] * 4, mode="reflect")
    actual = channels_first(shift_and_flip(images, shifts, flips))
    for i, (down, right) in enumerate(shifts.tolist()):
        top, left = padding + down, padding + right
        window = padded[i, :, top : top + height, left : left + width]
        assert torch.equal(actual[i].float(), tv.horizontal_flip(window) if flips[i] else window)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_augment_flips_none_or_all(probability):
    images = noise_images(5, 6, 7, 3)
    expected = normalise(images.flip(2) if probability else images, MEAN, STD)
    assert torch.equal(augment(images, Augmentation(flip=probability), MEAN, STD, draws(len(images))), expected)


def test_augment_crops_and_flips_as_drawn():
    """A column of each image counts its columns, so that shift and flip can be read off the output."""
    images = torch.arange(20, dtype=torch.uint8).view(1, 1, 20, 1).expand(4000, 20, 20, 1)
    output = augment(images, Augmentation(flip=0.25, crop_padding=3), [0.0], [1 / 255], draws(len(images)))
    middle = output[:, 0, 0, 9:11].round()
    flipped = middle[:, 1] < middle[:, 0]
    assert flipped.float().mean() == pytest.approx(0.25, abs=0.03)
    shift = torch.where(flipped, middle[:, 0] - 10, middle[:, 0] - 9)
    share = torch.bincount(shift.long() + 3, minlength=7) / len(shift)
    torch.testing.assert_close(share, torch.full((7,), 1 / 7), rtol=0, atol=0.03)


def test_shifts_cover_both_axes_independently():
    shifts = draw_shifts(1, draws(9000))
    cells = torch.bincount((shifts[:, 0] + 1) * 3 + shifts[:, 1] + 1, minlength=9)
    assert ((cells - 1000).abs() < 130).all()


# Resized crops


def test_resize_boxes_agrees_with_torchvision():
    images = noise_images(24, 33, 29, 3)
    boxes, flips = draw_crops((33, 29), (0.2, 1.0), draws(24)), draw_flips(0.5, draws(24, 1))
    pixels = channels_first(images).float()
    bicubic = InterpolationMode.BICUBIC
    expected = torch.stack([tv.resized_crop(pixels[i], *boxes[i].tolist(), [33, 29], bicubic, True) for i in range(24)])
    expected = torch.where(flips[:, None, None, None], tv.horizontal_flip(expected), expected)
    assert flips.any()
    assert not flips.all()
    assert_levels_close(resize_boxes(images, boxes, flips), expected.clamp(0, 255).round())


def test_resize_boxes_agrees_with_pillow():
    images, boxes = smooth_images(8, 32, 32), draw_crops((32, 32), (0.4, 1.0), draws(8))
    expected = []
    for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True):
        window = Image.fromarray(image.numpy()).crop((left, top, left + width, top + height))
        expected.append(np.array(window.resize((32, 32), Image.Resampling.BICUBIC)))
    actual = resize_boxes(images, boxes, torch.zeros(8, dtype=torch.bool))
    assert_levels_close(actual, channels_first(torch.from_numpy(np.stack(expected))), equal_share=0.8)


def test_resizing_the_whole_image_changes_nothing():
    images = noise_images(3, 9, 12, 1)
    whole = torch.tensor([[0, 0, 9, 12]]).expand(3, 4)
    actual = resize_boxes(images, whole, torch.zeros(3, dtype=torch.bool))
    assert torch.equal(actual, channels_first(images).float())


@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_crop_boxes_are_distributed_as_in_torchvision(size):
    count = 4000
    boxes = draw_crops(size, (0.5, 1.0), draws(count)).double()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor(size)).all()
    torch.manual_seed(0)
    reference, image = RandomResizedCrop(size, scale=(0.5, 1.0)), torch.zeros(3, *size)
    drawn = [reference.make_params([image]) for _ in range(count)]
    expected = torch.tensor(
        [[d[key] for key in ("top", "left", "height", "width")] for d in drawn], dtype=torch.float64
    )
    error = (boxes.var(0) / count + expected.var(0) / count).sqrt()
    assert ((boxes.mean(0) - expected.mean(0)).abs() < 4 * error).all()
    torch.testing.assert_close(boxes.std(0), expected.std(0), rtol=0.07, atol=0)


@pytest.mark.parametrize("size", [(10, 100), (100, 10), (20, 31)])
def test_a_crop_that_never_fits_is_central_as_in_torchvision(size):
    """In an image longer than 4/3, no box of an allowed shape has the whole area."""
    reference = RandomResizedCrop(size, scale=(1.0, 1.0))
    params = reference.make_params([torch.zeros(3, *size)])
    expected = [params[key] for key in ("top", "left", "height", "width")]
    assert draw_crops(size, (1.0, 1.0), draws(3)).tolist() == [expected] * 3


# RandAugment: each operation


@pytest.mark.parametrize("channel", [1, 3])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("level", [0.0, 0.37, 0.9, 1.0])
@pytest.mark.parametrize(
    ("operation", "reference", "equal_share"),
    [
        # torchvision loses a level by rounding where the exact blend is a whole number; we do not.
        (Operation.COLOR, tv.adjust_saturation, 0.97),
        (Operation.CONTRAST, tv.adjust_contrast, 0.999),
        (Operation.BRIGHTNESS, tv.adjust_brightness, 0.999),
        (Operation.SHARPNESS, tv.adjust_sharpness, 0.999),
    ],
)
def test_enhancements_agree_with_torchvision(operation, reference, equal_share, level, sign, channel):
    images = noise_images(6, 11, 13, channel)
    expected = reference(channels_first(images), max(0.1, 1 + sign * 0.9 * level))
    assert_levels_close(apply(operation, images, level, sign), expected, equal_share=equal_share)


@pytest.mark.parametrize("channel", [1, 3])
@pytest.mark.parametrize("level", [0.0, 0.37, 0.9, 1.0])
@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (Operation.POSTERIZE, lambda x, level: tv.posterize(x, 4 - int(4 * level))),
        (Operation.SOLARIZE, lambda x, level: tv.solarize(x, 256 - int(256 * level)) if level else x),
        (
            Operation.SOLARIZE_ADD,
            lambda x, level: torch.where(x < 128, (x.int() + int(110 * level)).clamp(max=255), x),
        ),
        (Operation.INVERT, lambda x, level: tv.invert(x)),
        (Operation.IDENTITY, lambda x, level: x),
    ],
)
def test_fixed_curves_agree_with_torchvision(operation, reference, level, channel):
    images = noise_images(3, 20, 21, channel)
    actual = apply(operation, images, level, 1)
    assert torch.equal(actual, reference(channels_first(images), level).float())


@pytest.mark.parametrize("channel", [1, 3])
@pytest.mark.parametrize(
    ("operation", "reference"),
    [(Operation.EQUALIZE, tv.equalize), (Operation.AUTO_CONTRAST, tv.autocontrast)],
)
def test_histogram_operations_agree_with_torchvision(operation, reference, channel):
    """On noise, a narrow range, one level only, and too few pixels to equalise."""
    wide = noise_images(4, 33, 31, channel)
    for images in (wide, wide // 5 + 60, wide // 200 + 3, wide * 0 + 9, wide[:, :9, :7]):
        actual = apply(operation, images, 0.9, 1)
        assert torch.equal(actual, reference(channels_first(images)).float())


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("operation", "reference", "greatest"),
    [
        (Operation.ROTATE, "rotate", 30.0),
        (Operation.SHEAR_X, "shear_x", 0.3),
        (Operation.SHEAR_Y, "shear_y", 0.3),
        (Operation.TRANSLATE_X, "translate_x_rel", 0.45),
        (Operation.TRANSLATE_Y, "translate_y_rel", 0.45),
    ],
)
def test_affine_maps_agree_with_timm_on_pillow(operation, reference, greatest, sign):
    """Pillow cuts off what it interpolates and we round, hence one grey level everywhere."""
    timm = pytest.importorskip("timm.data.auto_augment")
    images = noise_images(5, 23, 30, 3)
    options = {"resample": Image.Resampling.BILINEAR, "fillcolor": FILL}
    expected = on_pillow(images, lambda image: getattr(timm, reference)(image, sign * greatest * 0.83, **options))
    assert_levels_close(apply(operation, images, 0.83, sign), expected, equal_share=0.4)


def test_rotation_agrees_with_torchvision_away_from_the_border():
    images = smooth_images(4, 40, 40)
    expected = tv.rotate(channels_first(images), 27.0, InterpolationMode.BILINEAR)
    actual = apply(Operation.ROTATE, images, 0.9, 1)
    middle = slice(10, 30)
    assert_levels_close(actual[..., middle, middle], expected[..., middle, middle], equal_share=0.9)


def test_outside_of_a_translated_image_lies_the_fill():
    images = noise_images(2, 20, 20, 3)
    moved = apply(Operation.TRANSLATE_X, images, 1.0, 1)
    assert torch.equal(moved[..., :11], channels_first(images)[..., 9:].float())
    assert (moved[..., 11:] == torch.tensor(FILL).view(3, 1, 1)).all()


def test_a_batch_of_all_operations_equals_each_on_its_own():
    images = noise_images(1, 19, 22, 3).expand(len(Operation), -1, -1, -1)
    draw = RandAugmentDraw(torch.arange(len(Operation)), torch.full((16,), 0.8), torch.full((16,), -1.0))
    fill = torch.tensor(FILL, dtype=torch.float32).view(1, 3, 1, 1)
    together = rand_augment(channels_first(images).float(), draw, fill)
    for operation in Operation:
        alone = apply(operation, images[:1], 0.8, -1)
        assert torch.equal(together[operation], alone[0]), operation.name
    assert len({tuple(image.flatten().tolist()) for image in together}) == len(Operation)


def test_rand_augment_draws_as_timm_documents():
    draw = draw_rand_augment(9.0, 0.5, draws(30_000))
    share = torch.bincount(draw.operation, minlength=16) / 30_000
    assert share[0] == pytest.approx(0.5, abs=0.015)
    torch.testing.assert_close(share[1:], torch.full((15,), 0.5 / 15), rtol=0, atol=0.006)
    assert draw.sign.unique().tolist() == [-1.0, 1.0]
    assert draw.sign.mean() == pytest.approx(0, abs=0.03)
    random.seed(0)
    expected = torch.tensor([min(max(random.gauss(9, 0.5), 0), 10) / 10 for _ in range(30_000)])
    quantiles = torch.tensor([0.01, 0.1, 0.5, 0.9, 1.0])
    torch.testing.assert_close(draw.level.quantile(quantiles), expected.quantile(quantiles), rtol=0, atol=0.005)


def test_rand_augment_draws_are_independent():
    """The operation says nothing about its level or direction, nor one image about the next."""
    draw = draw_rand_augment(9.0, 0.5, draws(20_000, 3))
    columns = [draw.operation.float(), draw.level, draw.sign, draw.operation.roll(1).float()]
    correlation = torch.corrcoef(torch.stack(columns))
    assert (correlation - torch.eye(4)).abs().max() < 0.03


def test_augment_applies_as_many_rounds_as_configured():
    """An image stays as it is with probability 1/2 per round, and almost never otherwise."""
    images = smooth_images(1, 16, 16).expand(2000, -1, -1, -1)
    for rounds in (1, 3):
        augmentation = Augmentation(flip=0.0, rand_augment=9.0, rand_augment_ops=rounds)
        output = augment(images, augmentation, MEAN, STD, draws(len(images)))
        same = (output == normalise(images, MEAN, STD)).flatten(1).all(dim=1).float().mean()
        assert same == pytest.approx(0.5**rounds, abs=0.035)


def test_affine_maps_bring_in_the_mean_colour():
    """Every operation leaves an image of one colour so, if nothing of another colour comes in."""
    colour = torch.tensor([round(255 * m) for m in MEAN], dtype=torch.uint8)
    images = colour.expand(500, 12, 12, 3)
    output = augment(images, Augmentation(rand_augment=9.0, rand_augment_ops=1), MEAN, STD, draws(len(images)))
    assert torch.equal(output, output[..., :1, :1].expand_as(output))


# Random erasing


def test_erased_boxes_hold_normal_noise_and_nothing_else_changes():
    images = torch.full((400, 3, 24, 20), 50.0)
    boxes = draw_erasures((24, 20), 0.4, draws(400))
    output = erase(images, boxes, draws(len(images), 1))
    expected = torch.zeros(400, 24, 20, dtype=torch.bool)
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        expected[i, top : top + height, left : left + width] = True
    changed = output != 50.0
    assert torch.equal(changed, expected[:, None].expand(-1, 3, -1, -1))
    assert expected.flatten(1).any(dim=1).float().mean() == pytest.approx(0.4, abs=0.08)
    assert output[changed].mean() == pytest.approx(0, abs=0.03)
    assert output[changed].std() == pytest.approx(1, abs=0.03)
    assert output[changed].unique().numel() > 0.99 * changed.sum()


def test_erased_boxes_are_distributed_as_in_timm():
    timm = pytest.importorskip("timm.data.random_erasing")
    count = 3000
    boxes = draw_erasures((32, 32), 1.0, draws(count))
    random.seed(0)
    reference = timm.RandomErasing(probability=1.0, mode="pixel", device="cpu")
    gone = reference(torch.full((count, 1, 32, 32), 50.0))[:, 0] != 50.0
    expected = torch.stack([gone.any(2).sum(1), gone.any(1).sum(1), gone.sum((1, 2))], dim=1)
    height, width = boxes[:, 2], boxes[:, 3]
    actual = torch.stack([height, width, height * width], dim=1)
    quantiles = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    torch.testing.assert_close(
        actual.double().quantile(quantiles, dim=0),
        expected.double().quantile(quantiles, dim=0),
        rtol=0.06,
        atol=1.0,
    )


def test_augment_erases_after_normalising():
    images = torch.full((300, 16, 16, 3), 255, dtype=torch.uint8)
    output = augment(images, Augmentation(erase=1.0), (0.0,) * 3, (0.01,) * 3, draws(300))
    untouched = output == normalise(images, (0.0,) * 3, (0.01,) * 3)
    assert 0.02 < 1 - untouched.float().mean() < 0.34
    assert output[~untouched].abs().max() < 7


# Mixup and CutMix


def one_hot_targets(batch: int, labels: int) -> Tensor:
    return torch.eye(labels)[torch.arange(batch) % labels]


def batches(count: int) -> Draws:
    """One generator in the place of as many as there are batches."""
    return Draws((seeded(),) * count, whole(1))


def forced(share: float, cut: bool, centre: tuple[float, float] = (0.5, 0.5)) -> MixDraw:
    return MixDraw(torch.tensor([share]), torch.tensor([cut]), torch.tensor([centre]))


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_mixup_is_timms_formula(batch):
    images, targets = torch.randn(batch, 3, 6, 5, generator=seeded()), one_hot_targets(batch, 7)
    mixed, mixed_targets = mix_batches(images, targets, forced(0.3, cut=False))
    for i in range(batch):
        j = batch - 1 - i
        torch.testing.assert_close(mixed[i], 0.3 * images[i] + 0.7 * images[j])
        torch.testing.assert_close(mixed_targets[i], 0.3 * targets[i] + 0.7 * targets[j])


@given(
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32, exclude_max=True),
    st.floats(0, 1, width=32, exclude_max=True),
    st.integers(1, 12),
    st.integers(1, 12),
)
@settings(max_examples=60)
@example(2.0**-24, 0.0, 0.0, 1, 1)
def test_cutmix_is_timms_box_with_the_share_of_its_area(share, down, right, height, width):
    draw = forced(share, cut=True, centre=(down, right))
    images, targets = torch.randn(4, 2, height, width, generator=seeded()), one_hot_targets(4, 4)
    mixed, mixed_targets = mix_batches(images, targets, draw)
    # torch's root: where a side is nearly a whole number of pixels, the last bit decides, in which numpy's may differ.
    ratio = (1 - torch.tensor(share)).sqrt().numpy()
    cut_height = int(np.float32(height) * ratio)
    cut_width = int(np.float32(width) * ratio)
    middle_row, middle_column = (
        int(np.float32(height) * np.float32(down)),
        int(np.float32(width) * np.float32(right)),
    )
    top, bottom = np.clip([middle_row - cut_height // 2, middle_row + (cut_height + 1) // 2], 0, height)
    left, end = np.clip([middle_column - cut_width // 2, middle_column + (cut_width + 1) // 2], 0, width)
    expected = images.clone()
    expected[:, :, top:bottom, left:end] = images.flip(0)[:, :, top:bottom, left:end]
    assert torch.equal(mixed, expected)
    area = int((bottom - top) * (end - left))
    (kept,) = kept_pixels(draw, height, width)
    assert int((~kept).sum()) == area
    assert mixed_targets[0, 0].item() == pytest.approx(1 - area / (height * width), abs=1e-7)
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(4))


def test_mix_without_mixing_changes_nothing():
    images, targets = torch.randn(6, 3, 4, 4, generator=seeded()), one_hot_targets(6, 6)
    for augmentation in (Augmentation(), Augmentation(mixup=0.8, cutmix=1.0, mix_probability=0.0)):
        mixed, mixed_targets = mix(images, targets, augmentation, draws(6))
        assert torch.equal(mixed, images)
        assert torch.equal(mixed_targets, targets)


def test_mix_keeps_the_layout_and_the_mass_of_the_labels():
    images = normalise(noise_images(8, 9, 10, 3), MEAN, STD)
    smoothed = 0.9 * one_hot_targets(8, 10) + 0.01
    for seed in range(20):
        mixed, targets = mix(images, smoothed, RECIPE, draws(8, seed))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_the_share_is_beta_distributed(alpha):
    share = draw_shares(alpha, batches(4000))
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


@pytest.mark.parametrize(("mixup", "cutmix", "cut_share"), [(0.8, 1.0, 0.5), (0.8, 0.0, 0.0), (0.0, 1.0, 1.0)])
def test_the_kind_of_mixing_is_drawn_per_batch(mixup, cutmix, cut_share):
    draw = draw_mix(mixup, cutmix, 0.7, batches(1500))
    assert (draw.share < 1).float().mean() == pytest.approx(0.7, abs=0.05)
    assert draw.cut.float().mean() == pytest.approx(cut_share, abs=0.05)
    torch.testing.assert_close(draw.centre.mean(0), torch.full((2,), 0.5), rtol=0, atol=0.04)


def test_each_kind_of_mixing_has_its_own_beta():
    """Mixup at a tiny parameter is nearly all or nothing; CutMix at a huge one is nearly a half."""
    draw = draw_mix(0.05, 200.0, 1.0, batches(300))
    from_half = (draw.share - 0.5).abs()
    assert from_half[draw.cut].max() < 0.15
    assert (from_half[~draw.cut] > 0.3).float().mean() > 0.8


# The whole


@given(sizes, st.sampled_from([RECIPE, EVERYTHING_BUT_RESIZED]), st.integers(0, 10_000))
@settings(max_examples=30)
def test_any_image_size_gives_finite_float_images_in_channels_last(size, augmentation, seed):
    batch, height, width, channel = size
    output = augment(noise_images(*size), augmentation, MEAN[:channel], STD[:channel], draws(batch, seed))
    assert output.shape == (batch, channel, height, width)
    assert output.dtype == torch.float32
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert output.isfinite().all()
    mixed, targets = mix(output, one_hot_targets(batch, 3), augmentation, draws(batch, seed))
    assert mixed.shape == output.shape
    torch.testing.assert_close(targets.sum(1), torch.ones(batch))


@pytest.mark.parametrize("augmentation", [RECIPE, EVERYTHING_BUT_RESIZED])
def test_the_generator_decides_everything(augmentation):
    images, targets = noise_images(16, 12, 12, 3), one_hot_targets(16, 10)

    def run(seed: int) -> tuple[Tensor, Tensor]:
        drawn = draws(16, seed)
        return mix(augment(images, augmentation, MEAN, STD, drawn), targets, RECIPE, drawn)

    torch.manual_seed(1)
    first, first_targets = run(0)
    torch.manual_seed(2)
    again, again_targets = run(0)
    assert torch.equal(first, again)
    assert torch.equal(first_targets, again_targets)
    assert not torch.equal(first, run(1)[0])


@pytest.mark.parametrize("augmentation", [RECIPE, EVERYTHING_BUT_RESIZED])
def test_an_image_does_not_depend_on_its_neighbours(augmentation):
    images = noise_images(12, 14, 14, 3)
    changed = images.clone()
    changed[5] = 7
    one, other = seeded(), seeded()
    before = augment(images, augmentation, MEAN, STD, draws_of(one, 12))
    after = augment(changed, augmentation, MEAN, STD, draws_of(other, 12))
    others = torch.arange(12) != 5
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[5], after[5])
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("augmentation", [RECIPE, EVERYTHING_BUT_RESIZED])
@pytest.mark.parametrize("part", [whole(7), Part(7, 1, 3), Part(7, 3, 4)], ids=str)
def test_batches_that_are_augmented_together_are_those_augmented_alone(augmentation, part):
    images, targets = noise_images(3 * len(part), 14, 11, 3), one_hot_targets(3 * len(part), 10)

    def run(seeds: list[int], images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        drawn = Draws(tuple(map(seeded, seeds)), part)
        return mix(augment(images, augmentation, MEAN, STD, drawn), targets, RECIPE, drawn)

    together, shares = run([4, 5, 6], images, targets)
    assert together.is_contiguous(memory_format=torch.channels_last)
    for i, seed in enumerate([4, 5, 6]):
        where = slice(i * len(part), (i + 1) * len(part))
        alone, own = run([seed], images[where], targets[where])
        assert torch.equal(together[where], alone)
        assert torch.equal(shares[where], own)


@pytest.mark.parametrize("augmentation", [RECIPE, EVERYTHING_BUT_RESIZED])
def test_nothing_depends_on_a_value_on_the_device(augmentation):
    """Fake tensors have no values: reading one, or a shape that depends on one, would raise."""
    with FakeTensorMode():
        images = torch.zeros(6, 10, 12, 3, dtype=torch.uint8)
        together = Draws((torch.Generator(), torch.Generator()), whole(3))
        output = augment(images, augmentation, MEAN, STD, together)
        mixed, targets = mix(output, torch.zeros(6, 4), RECIPE, together)
    assert mixed.shape == (6, 3, 10, 12)
    assert targets.shape == (6, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augmentation", [RECIPE, EVERYTHING_BUT_RESIZED])
def test_nothing_waits_for_the_gpu(augmentation):
    generators = tuple(torch.Generator("cuda").manual_seed(seed) for seed in range(2))
    images, targets = noise_images(16, 12, 12, 3).cuda(), one_hot_targets(16, 10).cuda()
    with nothing_waits():
        together = Draws(generators, whole(8))
        mixed, _ = mix(augment(images, augmentation, MEAN, STD, together), targets, RECIPE, together)
    assert mixed.isfinite().all()
