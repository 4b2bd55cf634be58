"""Networks, and per family what its sites are called."""

from nodelens.networks.cct import CCT, CCTConfig
from nodelens.networks.families import FAMILIES, build_network, describe, load_network, read_checkpoint, sites
from nodelens.networks.network import Network
from nodelens.networks.sites import Site, reading, select_sites
from nodelens.networks.vgg import VGG, VGGConfig

__all__ = [
    "CCT",
    "FAMILIES",
    "VGG",
    "CCTConfig",
    "Network",
    "Site",
    "VGGConfig",
    "build_network",
    "describe",
    "load_network",
    "read_checkpoint",
    "reading",
    "select_sites",
    "sites",
]
