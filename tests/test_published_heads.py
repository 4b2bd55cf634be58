"""The heads that are found in networks of timm and transformers, beside their published or configured numbers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn

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
    "levit_128s": [4] * 2 + [8] + [6] * 3 + [16] + [8] * 4,  # those that shrink the image have more
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


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GROUPED = {**SMALL, "num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
IMAGES = {**SMALL, "image_size": 32, "patch_size": 8}
STAGES = {"depths": [1, 1], "num_heads": [2, 4], "image_size": 32, "patch_size": 2, "embed_dim": 16, "window_size": 4}
CONFIGURED: dict[str, tuple[dict[str, Any], list[int]]] = {
    **dict.fromkeys(("Bert", "Roberta", "XLMRoberta", "Camembert", "DebertaV2", "MPNet", "RoFormer"), (SMALL, [4, 4])),
    **dict.fromkeys(("Ernie", "ModernBert", "NomicBert", "OPT", "GPTNeoX", "Phi", "Persimmon"), (SMALL, [4, 4])),
    **dict.fromkeys(("Llama", "Mistral", "Qwen2", "Qwen3", "Phi3", "Starcoder2", "Nemotron"), (GROUPED, [4, 4])),
    **dict.fromkeys(("Gemma", "Gemma2", "Glm", "SmolLM3", "StableLm"), ({**GROUPED, "head_dim": 8}, [4, 4])),
    **dict.fromkeys(("GPT2", "GPTBigCode", "GPTJ"), ({**GPT, "rotary_dim": 4}, [4, 4])),
    "Mixtral": ({**GROUPED, "num_local_experts": 2}, [4, 4]),
    "Falcon": ({**SMALL, "new_decoder_architecture": True, "num_kv_heads": 2}, [4, 4]),
    "Bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, [4, 4]),
    "Mpt": ({"d_model": 32, "n_layers": 2, "n_heads": 4}, [4, 4]),
    "DistilBert": ({"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}, [4, 4]),
    "Flaubert": ({"emb_dim": 32, "n_layers": 2, "n_heads": 4}, [4, 4]),
    "Electra": ({**SMALL, "embedding_size": 16}, [4, 4]),
    "Longformer": ({**SMALL, "attention_window": 4}, [4, 4]),
    "Esm": ({**SMALL, "position_embedding_type": "rotary"}, [4, 4]),
    # Two blocks that read, two that write, which look back and at what was read.
    "T5": (
        {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64, "decoder_start_token_id": 0},
        [4] * 6,
    ),
    "Albert": ({**SMALL, "embedding_size": 16}, []),  # its blocks are one
    "XLNet": ({"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, []),  # its products are written out
    "FNet": ({"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}, []),
    **dict.fromkeys(("ViT", "DeiT", "Beit", "Dinov2", "ViTMSN", "IJepa", "Data2VecVision"), (IMAGES, [4, 4])),
    "CLIP": ({"vision_config": IMAGES}, [4, 4]),
    **dict.fromkeys(("Swin", "Swinv2"), (STAGES, [2, 4])),
    "ConvNext": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, []),
}
"""By the names of transformers: what is configured, and the heads of its blocks."""


class Called(nn.Module):
    """Reads images, or tokens of which 0 fills up."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Any:
        if inputs.is_floating_point():
            return self.model(pixel_values=inputs)
        return self.model(input_ids=inputs, attention_mask=(inputs != 0).long())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONFIGURED)
def test_the_configured_number_of_heads_is_found(name: str) -> None:
    torch.manual_seed(0)
    asked, heads = CONFIGURED[name]
    of_images = hasattr(transformers, f"{name}ForImageClassification")
    kind = getattr(transformers, name + ("ForImageClassification" if of_images else "ForSequenceClassification"))
    words = {} if of_images else {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = kind.config_class(**{**words, **asked})
    settings.num_labels = 5
    texts = torch.cat([torch.randint(3, 50, (2, 11)), torch.full((2, 1), 2)], dim=1)
    inputs = torch.randn(2, 3, 32, 32) if of_images else texts
    adapted = nl.adapt(Called(kind(settings)), inputs, padding=None if of_images else 0)
    assert [site.heads for site in adapted.sites() if site.heads] == heads
