"""examples/text.py, on a data set of six intents that is made here."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nodelens.networks import Site
from nodelens.probing import Measurement, SiteMeasurement

SCRIPT = Path(__file__).parents[1] / "examples" / "text.py"
SAID = ("pay my bill", "block my card", "raise the limit", "play a song", "tell me a joke", "set an alarm")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    described = importlib.util.spec_from_file_location("text_example", SCRIPT)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules["text_example"] = module  # its dataclass asks for it
    described.loader.exec_module(module)
    return module


def write_intents(folder: Path, split: str, each: int) -> None:
    """Six intents in two domains; every text is what it says, and a word that says nothing."""
    rows = [(f"{said} please {i % 3}", intent, intent // 3) for i in range(each) for intent, said in enumerate(SAID)]
    columns = dict(zip(("text", "intent", "domain"), zip(*rows, strict=True), strict=True))
    names = {"names": [said.replace(" ", "_") for said in SAID], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"intent": names}}})}
    table = pa.table({key: list(values) for key, values in columns.items()}).replace_schema_metadata(metadata)
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def test_texts_become_the_numbers_of_their_words(example: ModuleType) -> None:
    known = example.vocabulary(["Pay my bill", "pay MY card!", "pay"])
    assert known == {"pay": 2, "my": 3}
    assert example.tokens_of(["My bill, pay", ""], known)[:, :4].tolist() == [[3, 1, 2, 0], [0, 0, 0, 0]]


def test_pairs_of_one_domain_are_counted_within_clusters(example: ModuleType) -> None:
    means = torch.tensor([[1.0, 1.0], [0.9, 0.0], [0.8, 0.9], [0.0, 0.0]])  # clusters {0, 1, 2} and {0, 2}
    site = SiteMeasurement(
        Site("block", 2, "", "output"), "test", 7, means, means, 1.0, torch.ones(4, dtype=torch.int64)
    )
    measured = Measurement({"block": site}, "test", 7, ("a", "b", "c", "d"))
    found = example.same_domain("network", measured, {0: 0, 1: 0, 2: 1, 3: 1})
    assert found == [{"site": "block", "of": "network", "seed": 7, "pairs": 4, "same_domain": 0.25}]


def test_a_text_transformer_is_trained_and_measured(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_intents(tmp_path, "train", 40)
    write_intents(tmp_path, "test", 5)
    asked = (str(tmp_path), "--out", str(tmp_path / "run"), "--epochs", "12", "--probe-epochs", "3", "--seeds", "1")
    monkeypatch.setattr(sys, "argv", ["text.py", *asked])
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        example.main()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert "test accuracy 1.0000" in capsys.readouterr().out
    statistics, domains = (
        (tmp_path / "run" / "tables" / f"{name}.csv").read_text().splitlines() for name in ("statistics", "domains")
    )
    assert len(statistics) == 1 + 4 * 3
    assert len(domains) == 1 + 4 * 2
