"""Networks, and per family what its sites are called."""

from nodelens.networks.adapted import Adapted, adapt
from nodelens.networks.cct import CCT, CCTConfig
from nodelens.networks.export import dense_copy, export_checkpoint, export_network
from nodelens.networks.families import (
    FAMILIES,
    OWN_HEAD,
    build_alike,
    build_network,
    check_name,
    describe,
    layers,
    load_network,
    read_checkpoint,
    reads_texts,
    sites,
    stored,
)
from nodelens.networks.layers import (
    Layer,
    as_wide_as,
    block_numbers,
    block_patterns,
    by_own_head,
    layer_between,
    layer_weight,
    select_layers,
    without_skip,
)
from nodelens.networks.masking import apply_masks, fingerprint, masks_of, plain_state, remove_masks
from nodelens.networks.network import (
    Network,
    Stage,
    fitting,
    longest_text,
    mean_over_tokens,
    of_real_tokens,
    real_tokens,
)
from nodelens.networks.sites import Site, entering, reading, select_sites
from nodelens.networks.vgg import VGG, VGGConfig
from nodelens.networks.warm_start import warm_start

__all__ = [
    "CCT",
    "FAMILIES",
    "OWN_HEAD",
    "VGG",
    "Adapted",
    "CCTConfig",
    "Layer",
    "Network",
    "Site",
    "Stage",
    "VGGConfig",
    "adapt",
    "apply_masks",
    "as_wide_as",
    "block_numbers",
    "block_patterns",
    "build_alike",
    "build_network",
    "by_own_head",
    "check_name",
    "dense_copy",
    "describe",
    "entering",
    "export_checkpoint",
    "export_network",
    "fingerprint",
    "fitting",
    "layer_between",
    "layer_weight",
    "layers",
    "load_network",
    "longest_text",
    "masks_of",
    "mean_over_tokens",
    "of_real_tokens",
    "plain_state",
    "read_checkpoint",
    "reading",
    "reads_texts",
    "real_tokens",
    "remove_masks",
    "select_layers",
    "select_sites",
    "sites",
    "stored",
    "warm_start",
    "without_skip",
]
