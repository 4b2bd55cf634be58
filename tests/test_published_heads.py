"""The heads that are found in networks of timm, beside their published numbers of blocks and heads."""

from __future__ import annotations

import pytest
import timm
import torch

import nodelens as nl

PUBLISHED: dict[str, list[int]] = {
    "vit_small_patch16_224": [6] * 12,
    "vit_tiny_patch16_224": [3] * 12,
    "beit_base_patch16_224": [12] * 12,
    "eva02_tiny_patch14_224": [3] * 12,
    "convit_tiny": [4] * 12,
    "xcit_nano_12_p16_224": [4] * 14,  # the last two are those of the class token
    "cait_xxs24_224": [4] * 2,  # the class token's; the maps of the other blocks' heads are mixed
    "pit_ti_224": [2] * 2 + [4] * 6 + [8] * 4,
    "swin_tiny_patch4_window7_224": [3] * 2 + [6] * 2 + [12] * 6 + [24] * 2,
    "swinv2_tiny_window8_256": [3] * 2 + [6] * 2 + [12] * 6 + [24] * 2,
    "gcvit_xxtiny": [2] * 2 + [4] * 2 + [8] * 6 + [16] * 2,
    "davit_tiny": [3] * 2 + [6] * 2 + [12] * 6 + [24] * 2,  # by windows and by channels in turns
    "tiny_vit_5m_224": [4] * 2 + [5] * 6 + [10] * 2,
    "mobilevit_xxs": [4] * 9,
    "maxvit_pico_rw_256": [1] * 4 + [2] * 4 + [4] * 10 + [8] * 4,
    "pvt_v2_b0": [1] * 2 + [2] * 2 + [5] * 2 + [8] * 2,
    "twins_svt_small": [2] * 2 + [4] * 2 + [8] * 10 + [16] * 4,
    "hiera_tiny_224": [1] + [2] * 2 + [4] * 7 + [8] * 2,
    "mvitv2_tiny": [1] + [2] * 2 + [4] * 5 + [8] * 2,
    "volo_d1_224": [6] * 4 + [12] * 4 + [12] * 8 + [12] * 2 + [12] * 2,
    "edgenext_xx_small": [4] * 3,
    "coatnet_pico_rw_224": [],  # its attention is written in convolutions
    "levit_128s": [],  # its layers are no fully connected ones
    "botnet26t_256": [],
    "convnext_atto": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_number_of_heads_is_found(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10)
    size = network.pretrained_cfg["input_size"][-1]
    adapted = nl.adapt(network, torch.randn(2, 3, size, size))
    assert [site.heads for site in adapted.sites() if site.heads] == PUBLISHED[name]
