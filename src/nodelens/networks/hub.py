"""Networks of the hub, by name or by folder: `hf:google/vit-base-patch16-224`, `hf:bert-base-uncased`.

The package transformers builds them. A BERT or a ViT that one of nodelens's own families computes alike is taken for
one of that family: then its heads can be studied and its layers pruned. Of any other the sites are found by running it,
see `nodelens.networks.adapted`. Of what was trained for something else than labels, the encoder is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nodelens.data.snapshot import snapshot
from nodelens.data.texts import LONGEST
from nodelens.errors import InputError
from nodelens.networks.adapted import Adapted
from nodelens.networks.converted import converted_state
from nodelens.networks.network import Network, longest_text
from nodelens.networks.opened import opened
from nodelens.networks.published import Build, alike

HF = "hf:"
IMAGES, TEXTS = "ForImageClassification", "ForSequenceClassification"
"""How the names of architectures end that have labels."""
FILES = ["*.json", "*.txt", "*.model", "model*.safetensors"]
"""What is fetched of a network."""
SHORT = 16
"""Tokens of the text on which sites are found."""
OF_A_COPY = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")
"""Of a configuration, what does not determine the network."""


@dataclass(frozen=True)
class HubConfig:
    """A network that transformers builds.

    Attributes:
        architecture: name of its class there; of an encoder that was given a layer to labels, the encoder's.
        settings: its configuration there, as JSON.
        labels: 0 for an encoder alone.
        image_size: 0 where it reads texts.
        positions: tokens that it reads at most; 0 where it reads images.
        padding: the token that fills up a short text.
        pooler: whether an encoder has the layer behind it that some trainings do without.
    """

    architecture: str
    settings: str
    labels: int
    image_size: int = 0
    channels: int = 0
    positions: int = 0
    padding: int = 0
    pooler: bool = True


class Called(nn.Module):
    """A network of transformers, called with images, or with tokens of which those that fill up are not attended to.

    It gives logits, or, where it has no labels, what became of the first token (the mean over the places of a map).
    """

    def __init__(self, model: nn.Module, config: HubConfig) -> None:
        super().__init__()
        self.model = model
        self.padding = config.padding if config.positions else None
        settings: Any = model.config
        if self.padding is not None and getattr(settings, "pad_token_id", None) is None:
            settings.pad_token_id = self.padding  # a decoder looks for the last token before it
        settings.use_cache = False  # of keys and values for a next token, for which nobody asks
        if not config.pooler and not config.labels:
            model.register_module("pooler", None)

    def forward(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch output"]:
        if self.padding is None:
            found = self.model(inputs)
        else:
            found = self.model(input_ids=inputs, attention_mask=(inputs != self.padding).long())
        if hasattr(found, "logits"):
            return found.logits  # type: ignore[no-any-return]
        last = found.last_hidden_state
        return last[:, 0] if last.ndim == 3 else last.flatten(2).mean(dim=2)  # type: ignore[no-any-return]


class HubNetwork(Adapted):
    """A network that transformers builds."""

    family = "hub"

    def __init__(self, config: HubConfig) -> None:
        transformers = _package()
        described = json.loads(config.settings)
        if config.labels:
            described["num_labels"] = config.labels
        if "image_size" in described:
            described["image_size"] = config.image_size
        settings = transformers.AutoConfig.for_model(described.pop("model_type"), **described)
        theirs = _class(config)(settings)
        super().__init__(Called(theirs, config), config, _example(config))
        self._encoder = f"network.model.{theirs.base_model_prefix}."

    def in_encoder(self, name: str) -> str:
        """The name of a weight where the encoder stands alone, without a head."""
        return name.replace(self._encoder, "network.model.", 1)


def _class(config: HubConfig) -> Any:
    """The class of transformers; for an encoder that is to have labels, that of the classifiers around it.

    Raises:
        InputError: transformers has none.
    """
    name = config.architecture
    if config.labels and not name.endswith((IMAGES, TEXTS)):
        name = name.removesuffix("Model") + (TEXTS if config.positions else IMAGES)
    found = getattr(_package(), name, None)
    if found is None:
        raise InputError(f"transformers has no {name}, which could give a {config.architecture} labels")
    return found


def from_hub(source: str, build: Build) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata of a network in the hub's layout, from a folder, the hub's cache or the hub.

    Args:
        source: `hf:` and a name on the hub or a folder.

    Raises:
        InputError: transformers is not installed; there is no such network, or none whose weights are safetensors and
            whose code is transformers' own; it reads neither images nor texts.
    """
    folder = _folder(source.removeprefix(HF))
    theirs, missing = _pretrained(source, folder)
    settings: Any = theirs.config
    described = {key: value for key, value in settings.to_dict().items() if key not in OF_A_COPY}
    architecture, texts = type(theirs).__name__, hasattr(settings, "vocab_size")
    of_input, metadata = (_of_texts if texts else _of_images)(source, folder, settings)
    labels = int(settings.num_labels) if architecture.endswith((IMAGES, TEXTS)) else 0
    config = HubConfig(architecture, json.dumps(described), labels, **of_input, pooler=not missing)
    network = opened(Called(theirs, config)).eval()
    converted = converted_state(settings.model_type, theirs.state_dict(), labelled=labels > 0)
    if converted is not None and alike(network, converted, metadata, build, _one_short) is not None:
        return converted, metadata
    state = {f"network.{key}": tensor for key, tensor in network.state_dict().items()}
    return state, metadata | {"family": HubNetwork.family, "config": json.dumps(asdict(config))}


def _package() -> Any:
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise InputError('networks of the hub need transformers; pip install "nodelens[transformers]"') from error
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


def _folder(name: str) -> Path:
    """Where the network's files lie; what is not a folder is fetched once from the hub."""
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return snapshot(
        name,
        "model",
        FILES,
        unknown=f"the hub has no network {name!r} that you may read, and there is no such folder",
        otherwise="give hf:FOLDER",
    )


def _pretrained(source: str, folder: Path) -> tuple[nn.Module, list[str]]:
    """The network with its weights, and the names of those of a pooler that the folder does not have."""
    transformers = _package()
    settings = _loaded(source, transformers.AutoConfig.from_pretrained, folder)
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{source} has no safetensors, and no pickle is loaded; save it with save_pretrained")
    architecture = str((settings.architectures or [""])[0])
    labelled = architecture.endswith((IMAGES, TEXTS)) and hasattr(transformers, architecture)
    kind = getattr(transformers, architecture if labelled else "AutoModel")
    load = partial(kind.from_pretrained, use_safetensors=True, output_loading_info=True)
    theirs, found = _loaded(source, load, folder)
    missing = sorted(found["missing_keys"])
    if missing and (labelled or not all(key.startswith("pooler.") for key in missing)):
        raise InputError(
            f"{source} lacks weights of its {type(theirs).__name__}, such as {missing[0]}; give one that was trained"
        )
    return theirs.float().eval(), missing


def _loaded(source: str, load: Callable[..., Any], folder: Path) -> Any:
    try:
        return load(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # of transformers, of its tokenizers, of a damaged file
        raise InputError(f"{source} cannot be loaded: {' '.join(str(error).split())}") from error


def _of_texts(source: str, folder: Path, settings: Any) -> tuple[dict[str, int], dict[str, str]]:
    """What a network reads, and its tokeniser."""
    rules = _loaded(source, _package().AutoTokenizer.from_pretrained, folder)
    if not rules.is_fast:
        raise InputError(f"the tokeniser of {source} has no tokenizer.json; save it as a fast one")
    # A decoder that was trained on texts one after another has none: what ends a text may fill it up.
    padding = rules.eos_token_id if rules.pad_token_id is None else rules.pad_token_id
    if padding is None:
        raise InputError(f"{source} has no token that ends or fills up short texts; set its tokeniser's pad_token")
    # Never more than LONGEST: a RoBERTa has two places beyond, which are none of a text's.
    places = getattr(settings, "max_position_embeddings", None) or LONGEST
    positions = int(min(rules.model_max_length, places, LONGEST))
    metadata = {"tokenizer": rules.backend_tokenizer.to_str(), "padding": str(padding), **_heads(settings)}
    return {"positions": positions, "padding": int(padding)}, metadata


def _of_images(source: str, folder: Path, settings: Any) -> tuple[dict[str, int], dict[str, str]]:
    """What a network reads, and how its images were scaled, where its folder says so."""
    metadata, size = _heads(settings), getattr(settings, "image_size", None)
    if (folder / "preprocessor_config.json").exists():
        described: Any = _loaded(source, _package().AutoImageProcessor.from_pretrained, folder)
        if described.do_normalize:
            metadata |= {
                "mean": " ".join(map(str, described.image_mean)),
                "std": " ".join(map(str, described.image_std)),
            }
        crop = getattr(described, "crop_size", None) or described.size
        size = size or crop.get("height") or crop.get("shortest_edge")
    if not isinstance(size, int):
        raise InputError(f"{source} does not say how large its images are, or not that they are square")
    metadata["image_size"] = str(size)
    return {"image_size": size, "channels": int(getattr(settings, "num_channels", 3))}, metadata


def _heads(settings: Any) -> dict[str, str]:
    heads = getattr(settings, "num_attention_heads", None)
    return {"heads": str(heads)} if isinstance(heads, int) else {}


def _example(config: HubConfig) -> Tensor:
    """Inputs on which sites are found."""
    if not config.positions:
        return torch.zeros(2, config.channels, config.image_size, config.image_size)
    return torch.full((2, min(SHORT, config.positions)), int(config.padding == 0))


def _one_short(ours: Network) -> Tensor:
    """Two inputs; of texts, the second is half as long as can be."""
    inputs, longest = ours.example(2), longest_text(ours)
    if longest:
        inputs[1, longest // 2 :] = ours.config.padding  # type: ignore[attr-defined]
    return inputs
