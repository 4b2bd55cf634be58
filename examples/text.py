"""What the nodes of a text transformer know: 150 intents of CLINC150, in 10 domains of 15.

    python examples/text.py FOLDER [--out runs/text] [--seeds 3] [--epochs 20] [--texts N]

FOLDER holds CLINC150 as parquet files: train-*.parquet and test-*.parquet with the columns `text`, `intent`, `domain`.
Trains a transformer of four blocks on words (plain torch, none of nodelens), then measures what leaves every block,
beside permuted labels and an untrained network: Tables 1 and 2 of the paper, for text. Further, how often two labels
of one cluster belong to one domain; by chance it would be (15 − 1)/(150 − 1) = 0.094 of the pairs.
Seven minutes a seed on two cores.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, groupby
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nodelens as nl
from nodelens.probing import Measurement, ProbeSettings, probe_recipe
from nodelens.progress import console
from nodelens.report.tables import TABLE1, TABLE2, Row, rounded, statistics_rows, statistics_table
from nodelens.runs import RunDirectory

LENGTH, WIDTH, HEADS, BLOCKS = 20, 128, 4, 4
NOTHING, UNKNOWN = 0, 1
"""Words that every vocabulary has: what fills a short text, and what occurs once in all that is learnt."""


@dataclass(frozen=True)
class Texts:
    """A split of CLINC150."""

    texts: list[str]
    intents: Tensor
    names: list[str]
    domain_of_intent: dict[int, int]


class TextTransformer(nn.Module):
    """Word embeddings, encoder blocks, the mean over the words, an output layer."""

    def __init__(self, words: int, labels: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.2, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(block, BLOCKS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.output = nn.Linear(WIDTH, labels)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(F.dropout(self.words(tokens) + self.places, 0.2, self.training))
        return self.output(self.norm(x).mean(dim=1))


def read(folder: Path, split: str, texts: int | None) -> Texts:
    """About so many texts of a split, evenly spaced, or all."""
    (file,) = folder.glob(f"{split}-*.parquet")
    table = pq.read_table(file)
    table = table.take(list(range(0, len(table), max(1, len(table) // texts if texts else 1))))
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    intents, domains = table["intent"].to_pylist(), table["domain"].to_pylist()
    domain_of_intent = dict(zip(intents, domains, strict=True))
    return Texts(table["text"].to_pylist(), torch.tensor(intents), features["intent"]["names"], domain_of_intent)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def vocabulary(texts: Sequence[str]) -> dict[str, int]:
    counts = Counter(word for text in texts for word in words_of(text))
    return {word: i for i, word in enumerate((w for w, n in counts.most_common() if n > 1), UNKNOWN + 1)}


def tokens_of(texts: Sequence[str], known: dict[str, int]) -> Tensor:
    """Numbers of the first words of each text, filled up with NOTHING."""
    tokens = torch.full((len(texts), LENGTH), NOTHING)
    for row, text in zip(tokens, texts, strict=True):
        found = [known.get(word, UNKNOWN) for word in words_of(text)[:LENGTH]]
        row[: len(found)] = torch.tensor(found, dtype=torch.long)
    return tokens


def train(network: TextTransformer, learnt: nl.Examples, epochs: int, batch_size: int = 128) -> None:
    steps = max(1, len(learnt) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * steps, pct_start=0.1)
    network.train()
    for epoch in range(epochs):
        for chosen in torch.randperm(len(learnt))[: steps * batch_size].chunk(steps):
            tokens = learnt.inputs[chosen]
            lost = torch.rand(tokens.shape) < 0.1
            logits = network(tokens.masked_fill(lost, UNKNOWN))
            loss = F.cross_entropy(logits, learnt.labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)


@torch.inference_mode()
def accuracy(network: nn.Module, examples: nl.Examples) -> float:
    network.eval()
    hits = [network(t).argmax(dim=1) == y for _, t, y in examples.own_batches(512)]
    return torch.cat(hits).float().mean().item()


def same_domain(of: str, measured: Measurement, domain_of_intent: dict[int, int], threshold: float = 0.3) -> list[Row]:
    """Share of the pairs of labels in one cluster that are of one domain, site by site."""
    rows = []
    for name, site in measured.items():
        pairs = [
            domain_of_intent[a] == domain_of_intent[b]
            for node in range(site.site.nodes)
            for cluster in site.matrices.clusters(node, threshold)
            for a, b in combinations(cluster, 2)
        ]
        share = sum(pairs) / max(1, len(pairs))
        rows.append({"site": name, "of": of, "seed": measured.seed, "pairs": len(pairs), "same_domain": share})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/text"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--probe-epochs", type=int, default=20)
    parser.add_argument("--texts", type=int, help="learn and test only about so many, evenly spaced")
    parser.add_argument("--seeds", type=int, default=3, help="networks, each with a probe of its own")
    asked = parser.parse_args()

    learnt, test = (read(asked.folder, split, asked.texts) for split in ("train", "test"))
    known = vocabulary(learnt.texts)
    examples = tuple(
        nl.Examples(tokens_of(part.texts, known), part.intents, learnt.names, split, "clinc150")
        for part, split in ((learnt, "train"), (test, "test"))
    )
    # torch's shortcut for inference would leave no module to read at.
    torch.backends.mha.set_fastpath_enabled(False)
    found: dict[str, list[Measurement]] = {"network": [], "untrained": []}
    reached = []
    for seed in range(asked.seeds):
        torch.manual_seed(seed)
        networks = {of: TextTransformer(len(known) + 2, len(learnt.names)) for of in found}
        train(networks["network"], examples[0], asked.epochs)
        reached.append(accuracy(networks["network"], examples[1]))
        print(f"network {seed}: {len(known)} words, test accuracy {reached[-1]:.4f}", flush=True)
        settings = ProbeSettings(probe_recipe(asked.probe_epochs), (seed,))
        for of, network in networks.items():
            adapted = nl.adapt(network, examples[0].inputs[:2])
            found[of].append(nl.measure(adapted, examples, "encoder.layers.*", settings=settings))

    rows = statistics_rows(found)
    shares = [same_domain(of, one, learnt.domain_of_intent) for of, each in found.items() for one in each]
    domains = sorted(chain.from_iterable(shares), key=lambda row: (row["of"], row["site"]))
    for columns, title in ((TABLE1, "Table 1: what the nodes behind each block know"), (TABLE2, "Table 2: per label")):
        console.print(statistics_table(rows, columns, title).rich())
    for (of, name), group in groupby(domains, key=lambda row: (row["of"], row["site"])):
        print(of, name, [round(row["same_domain"], 3) for row in group])
    run = RunDirectory(asked.out)
    with run.claimed():
        how = {key: getattr(asked, key) for key in ("epochs", "probe_epochs", "texts", "seeds")}
        run.configure("text", {**how, "data": [part.fingerprint for part in examples]}, test_accuracy=reached)
        run.write_table("statistics", rounded(rows))
        run.write_table("domains", rounded(domains))
    print(f"tables in {run.path / 'tables'}")


if __name__ == "__main__":
    main()
