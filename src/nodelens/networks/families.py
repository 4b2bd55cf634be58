"""The families of networks that nodelens can build, load and measure.

A family is a file with a configuration dataclass, a network class with `.config`, `.family` and `.sites()`,
and two functions: from a name, and from a state dict, to a configuration. It is entered in `FAMILIES` here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks import bert, cct, resnet, vgg, vit
from nodelens.networks.adapted import Adapted
from nodelens.networks.checkpoints import check_finite, load_state, read_file
from nodelens.networks.hub import HF, HubConfig, HubNetwork, from_hub
from nodelens.networks.layers import Layer
from nodelens.networks.masking import apply_masks, packed_state, unpacked_state
from nodelens.networks.network import Network
from nodelens.networks.published import TIMM, TimmConfig, TimmNetwork, from_timm, of_timm
from nodelens.networks.sites import Site
from nodelens.processes import by_first


@dataclass(frozen=True)
class Family:
    """How networks of one kind come into being.

    Attributes:
        heads_by_block: its blocks can have different numbers of heads.
    """

    network: Callable[[Any], Network]
    config: Callable[..., Any]
    by_name: Callable[[str, int, int, int], Any | None]
    by_state: Callable[[Mapping[str, Tensor], Mapping[str, str]], Any | None]
    heads_by_block: bool = False


FAMILIES = {
    "cct": Family(cct.CCT, cct.CCTConfig, cct.cct_config, cct.infer_config, heads_by_block=True),
    "vit": Family(vit.ViT, vit.ViTConfig, vit.vit_config, vit.infer_config),
    "resnet": Family(resnet.ResNet, resnet.ResNetConfig, resnet.resnet_config, resnet.infer_config),
    "bert": Family(bert.Bert, bert.BertConfig, bert.bert_config, bert.infer_config),
    "vgg": Family(vgg.VGG, vgg.VGGConfig, vgg.vgg_config, vgg.infer_config),
    # By its name alone, `timm:…` or `hf:…`, a network may also turn out to be of another family.
    "timm": Family(TimmNetwork, TimmConfig, lambda *_: None, lambda *_: None),
    "hub": Family(HubNetwork, HubConfig, lambda *_: None, lambda *_: None),
}


def build_network(name: str, labels: int, image_size: int, channels: int = 3, **changes: Any) -> Network:
    """A freshly initialised network by name (`cct_7_3x1`, `vgg16_bn`, `bert_4_256`).

    Args:
        name: a variant of one of the families, or `timm:` and the name of a network of timm.
        labels: number of outputs.
        image_size: side of the square input, in pixels; 0 for texts.
        channels: 3 for colour, 1 for grey; 0 for texts.
        changes: fields of the family's configuration to set, e.g. ``attention_dropout=0.0``; timm's have none.

    Raises:
        InputError: the name belongs to no family, or to one that reads texts and not images, or images and not texts;
            the family does not have a field that is to be set.
    """
    if not image_size and not reads_texts(name):
        raise InputError(f"{name!r} reads no texts; known are bert_LAYERS_WIDTH, e.g. bert_4_256")
    if name.startswith(TIMM):
        _check_known(name, changes, ())
        return of_timm(name, labels, image_size, channels, partial(_build, asked={}, source=name))
    family, config = _by_name(name, labels, image_size, channels)
    _check_known(name, changes, _settable(config))
    return _changed(family, config, changes)


def settings_of(network: str | Network) -> list[str]:
    """Names of what `build_network` and `build_alike` can change of a network, given by its name or itself."""
    if isinstance(network, Network):
        return _settable(network.config)
    return [] if network.startswith(TIMM) else _settable(_by_name(network, 2, *_input_of(network))[1])


def _settable(config: Any) -> list[str]:
    """Names of a configuration's fields that the arguments of every network do not set."""
    given = ("name", "architecture", "settings", "labels", "image_size", "channels")
    return [field.name for field in dataclasses.fields(config) if field.name not in given]


def _check_known(network: str, changes: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in changes:
        if name not in known:
            raise InputError(f"{network} has no setting {name!r}; it has {', '.join(known) or 'none'}")


def check_name(name: str) -> None:
    """
    Raises:
        InputError: no network is called so; what timm calls so is not looked up.
    """
    if not name.startswith(TIMM):
        _by_name(name, 2, *_input_of(name))


def _input_of(name: str) -> tuple[int, int]:
    """An image size, and channels, that a variant can have."""
    return (0, 0) if reads_texts(name) else (224, 3)


def _by_name(name: str, labels: int, image_size: int, channels: int) -> tuple[Family, Any]:
    for family in FAMILIES.values():
        config = family.by_name(name, labels, image_size, channels)
        if config is not None:
            return family, config
    raise InputError(
        f"unknown network {name!r}; known: cct_L_KxC (e.g. cct_7_3x1), vit_SIZE_patchP (e.g. vit_tiny_patch16), "
        "resnet18, 34, 50, 101, 152 (also _3x3), vgg11, 13, 16, 19 (also _bn, _512, _bn_512), timm:NAME; "
        "for texts bert_LAYERS_WIDTH (e.g. bert_4_256)"
    )


def build_alike(trained: Network, labels: int, image_size: int, channels: int, **changes: Any) -> Network:
    """A freshly initialised network of the same kind as a trained one, for other labels or images.

    Args:
        trained: of one of the families.
        labels, image_size, channels, changes: see `build_network`; of a network of texts, only the labels count.

    Raises:
        InputError: it is of no family; it cannot be built so, or does not have a field that is to be set.
    """
    if trained.family not in FAMILIES:
        raise InputError(f"a network of the kind {trained.family!r} cannot be built again; train it by its own means")
    _check_known(type(trained).__name__, changes, _settable(trained.config))
    asked = changes | {"labels": labels}
    if image_size:
        asked |= {"image_size": image_size, "channels": channels}
    return _changed(FAMILIES[trained.family], trained.config, asked)


def _changed(family: Family, config: Any, changes: Mapping[str, Any]) -> Network:
    """A network of a configuration with some of its fields changed."""
    if not (family.heads_by_block or isinstance(changes.get("heads", 1), int)):
        raise InputError(f"only the blocks of a CCT can differ in their heads; give one number, not {changes['heads']}")
    return family.network(dataclasses.replace(config, **changes))


def reads_texts(name: str) -> bool:
    """Whether a variant reads texts.

    >>> reads_texts("bert_4_256"), reads_texts("cct_7_3x1")
    (True, False)
    """
    return bert.bert_config(name, 1, 0, 0) is not None


def describe(network: Network) -> dict[str, str]:
    """Metadata that lets `load_network` rebuild the network around its weights."""
    return {"format": "pt", "family": network.family, "config": json.dumps(network.settings())}


def stored(network: Network) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the file that `load_network` reads the network back from."""
    tensors, shapes = packed_state(network)
    return tensors, {**describe(network), **shapes}


def layers(network: nn.Module) -> list[Layer]:
    """The fully connected layers of a network that join two sites, or a site and the labels.

    Raises:
        InputError: the network is of no known family.
    """
    if not isinstance(network, Network):
        raise InputError(f"{type(network).__name__} does not say which layers it has; see docs/architecture.md")
    return network.layers()


OWN_HEAD = "own_head"
"""Name of the site that a network's own layer to the labels reads."""


def sites(network: nn.Module) -> list[Site]:
    """The places of a network where nodes can be measured, in the order of the data's way; last what it answers from.

    Raises:
        InputError: the network is of no known family.
    """
    if not isinstance(network, Network):
        raise InputError(f"{type(network).__name__} does not say which sites it has; nl.adapt finds them")
    return [*network.sites(), *_own_head(network)]


def _own_head(network: Network) -> list[Site]:
    """The site that the layer to the labels reads, where there is one, and no module of that name."""
    path = network.output_layer()
    layer = network.get_submodule(path) if path else None
    if not isinstance(layer, nn.Linear) or OWN_HEAD in [site.name for site in network.sites()]:
        return []
    return [Site(OWN_HEAD, layer.in_features, path, "input", "units", own_head=True)]


def load_network(
    source: str | Path, *, labels: int | None = None, heads: int | None = None, image_size: int | None = None
) -> Network:
    """Load a trained network, in eval mode; the masks of a pruned one hold on. Torch's random state stays as it was.

    Args:
        source: a run directory, a `.safetensors` file, a `.pth` of tensors only, with the parameter names of the
            published checkpoints, `timm:` and the name of a network that timm publishes, or `hf:` and the name on the
            hub, or the folder, of a classifier of images or texts.
        labels: the number of labels that the data has, checked against the output layer.
        heads: attention heads, where neither the file's metadata nor its shapes tell.
        image_size: side of the input in pixels, where neither tells: a VGG without metadata counts as 224.

    Raises:
        InputError: missing, truncated or foreign file; a pickle that wants to execute code; NaN or
            infinite weights; another number of labels.
    """
    asked = {key: value for key, value in {"heads": heads, "image_size": image_size}.items() if value is not None}
    with torch.random.fork_rng(devices=[]):  # others draw the weights first that they then read
        state, metadata = read_checkpoint(source)
        network = _build(state, metadata, asked, source)
    if labels is not None and network.config.labels != labels:
        raise InputError(
            f"{source} has {network.config.labels} outputs but the data has {labels} labels; give its data set"
        )
    return network


def _build(
    state: Mapping[str, Tensor], metadata: Mapping[str, str], asked: Mapping[str, int], source: str | Path
) -> Network:
    try:
        state, masks = unpacked_state(state, metadata)
    except (InputError, ValueError) as error:
        raise InputError(f"{source} is damaged: {error}") from error
    config, family = _configuration(state, metadata, asked, source)
    with _in_one_sentence(f"{source} describes no network that can be built"):
        network = _to_be_filled(family, config)
    load_state(network, state, source)
    check_finite(state, source)
    apply_masks(network, masks)
    network.checkpoint_metadata = metadata
    network.eval()
    return network


def _to_be_filled(family: Family, config: Any) -> Network:
    """A network whose weights are yet to come: of our own families, none is drawn."""
    if family.network in (TimmNetwork, HubNetwork):  # which have to run, so that their sites are found
        return family.network(config)
    with torch.device("meta"):
        network = family.network(config)
    return network.to_empty(device="cpu")


@by_first
def read_checkpoint(source: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a checkpoint file, run directory, or network of timm or the hub.

    Code in a pickle is never executed.
    """
    if str(source).startswith(TIMM):
        return from_timm(str(source), partial(_build, asked={}, source=source))
    if str(source).startswith(HF):
        return from_hub(str(source), partial(_build, asked={}, source=source))
    path = Path(source)
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            raise InputError(f"{path} holds no model.safetensors; finish `nodelens train … --out {path}` first")
        path = path / "model.safetensors"
    if not path.is_file():
        raise InputError(
            f"there is no checkpoint {path}; give a run directory, a .safetensors or a .pth file, timm:NAME or hf:NAME"
        )
    return read_file(path)


def _configuration(
    state: Mapping[str, Tensor], metadata: Mapping[str, str], asked: Mapping[str, int], source: str | Path
) -> tuple[Any, Family]:
    try:
        found = _described(metadata) or _inferred(state, metadata)
        if found is not None:
            return _with_asked(found[0], asked), found[1]
    except InputError as error:
        raise InputError(f"{source} describes no network that can be built: {error}") from error
    of_hub = f"; give hf:{source} for what transformers saved" if (Path(source) / "config.json").exists() else ""
    raise InputError(
        f"{source} is no CCT, ViT, BERT, ResNet or VGG: its first parameters are {', '.join(list(state)[:3])}{of_hub}"
    )


def _described(metadata: Mapping[str, str]) -> tuple[Any, Family] | None:
    """What nodelens itself wrote beside the weights."""
    if "family" not in metadata or "config" not in metadata:
        return None
    if metadata["family"] == Adapted.family:
        raise InputError("these are weights of a network given to nl.adapt; build it as it was and load them into it")
    if metadata["family"] not in FAMILIES:
        raise InputError(f"the family {metadata['family']!r} is unknown here, update nodelens")
    family = FAMILIES[metadata["family"]]
    with _in_one_sentence(f"the settings that it gives of a {metadata['family']} are none of those known here"):
        return family.config(**json.loads(metadata["config"])), family


def _inferred(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[Any, Family] | None:
    for name, family in FAMILIES.items():
        with _in_one_sentence(f"it has the names of a {name}, but not its weights or their shapes"):
            config = family.by_state(state, metadata)
        if config is not None:
            return config, family
    return None


def _with_asked(config: Any, asked: Mapping[str, int]) -> Any:
    """
    Raises:
        InputError: the network cannot be so.
    """
    if "heads" in asked and not hasattr(config, "heads"):
        raise InputError("it has no attention heads whose number could be chosen; leave the number out")
    return dataclasses.replace(config, **asked)


@contextmanager
def _in_one_sentence(trouble: str) -> Iterator[None]:
    """What a file makes go wrong is an `InputError` that says so; one that is raised within stays as it is."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{trouble}: {error} is missing") from error
    except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{trouble} ({error})") from error
