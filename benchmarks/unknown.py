"""Which frame embedding tells an unknown product: each product of a plant in turn is left out of training.

    python -m benchmarks.unknown DATA/neu --seeds 3 --out out/unknown.md

The features of the backbone are computed once; then the projection is trained on those of all products but one, by each
loss, and pictures of the one are to be told from test pictures of the others by the published score: the smallest
distance over the known products, each the harmonic mean of the views' Mahalanobis distances. Prints a Markdown table:
the mean AUROC over the products left out, its lowest and highest seed, by number of views.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quarterturn.trainer.config import DataSettings, ProjectionSettings, TrainSettings
from quarterturn.trainer.data import Pictures, Plan, find_good_parts
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.projection import KeptViews, Projection, view_features
from quarterturn.trainer.train import learning_rate
from quarterturn.trainer.weights import create_encoder
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.detectors import between_views
from quarterturn.worker.contract.gaussians import Moments
from quarterturn.worker.contract.views import turn
from quarterturn.worker.fitting.normal import auroc
from quarterturn.worker.inspection.scoring import aggregate
from quarterturn.worker.pictures.sets import test_pictures

TAU = 0.2
VARIANTS = {
    "masked contrastive (CCM and SPA, published)": {},
    "without SPA": {"spa": 0.0},
    "without CCM (all pairs alike)": {"alpha": 1 / TAU, "beta": 1 / TAU},
    "SimCLR (neither)": {"alpha": 1 / TAU, "beta": 1 / TAU, "spa": 0.0},
}
SUPERVISED, RAW = "supervised contrastive", "raw pooled features"
VIEWS = (1, 4, 8)
_BATCH = 16


@dataclass(frozen=True)
class Known:
    """Pooled features: of augmented views (n, A, 4, F) and of plain ones (n, 8, F) of one product; test (m, 8, F)."""

    augmented: Tensor
    plain: Tensor
    test: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="train/<product>, test/<product>, see docs/data.md")
    parser.add_argument("--side", type=int, default=128, help="of a frame, in pixels; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ...; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table there")
    arguments = parser.parse_args()
    settings = TrainSettings(data=DataSettings(path=arguments.folder, side=arguments.side))
    encoder = create_encoder(settings.architecture.model_copy(update={"head": False}), arguments.side, "package").eval()
    known = features_of(encoder, settings)
    results: dict[str, dict[int, list[float]]] = {}
    for seed in range(arguments.seeds):
        for name in (*VARIANTS, SUPERVISED, RAW):
            if name == RAW and seed:
                continue  # nothing is drawn
            print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
            means = np.mean([left_out(known, product, name, seed) for product in known], axis=0)
            for views, mean in zip(VIEWS, means, strict=True):
                results.setdefault(name, {}).setdefault(views, []).append(float(mean))
    text = table(results, len(known))
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text, end="")


@torch.no_grad()
def features_of(encoder: Encoder, settings: TrainSettings) -> dict[str, Known]:
    """The features of all pictures of each product, computed once."""
    parts, tests = find_good_parts(settings.data), test_pictures(settings.data.path)
    known = {}
    for product, learned in zip(parts.products, parts.learned, strict=True):
        with Pictures(learned, settings.data) as pictures:
            frames = [torch.from_numpy(batch).permute(0, 3, 1, 2) for batch in pictures.batches(_BATCH)]
        with Pictures([one.path for one in tests if one.product == product], settings.data) as pictures:
            test = torch.cat([plain(encoder, batch) for batch in pictures.batches(_BATCH)])
        augmented = view_features(encoder, iter(frames), len(learned), settings)
        ordinary = torch.cat([plain(encoder, batch.permute(0, 2, 3, 1).numpy()) for batch in frames])
        known[product] = Known(augmented, ordinary, test)
    return known


def plain(encoder: Encoder, frames: np.ndarray) -> Tensor:
    """(b, S, S, 3) -> (b, 8, F)."""
    found = []
    for view in range(max(VIEWS)):
        turned = np.stack([turn(frame, view) for frame in frames])
        pixels = encoder.normalise(torch.from_numpy(turned).permute(0, 3, 1, 2))
        found.append(encoder.pooled(encoder.features(pixels.contiguous(memory_format=torch.channels_last))))
    return torch.stack(found, dim=1)


def left_out(known: dict[str, Known], unknown: str, name: str, seed: int) -> list[float]:
    """The AUROC for each number of views, of `unknown` against the test pictures of all other products."""
    others = [product for product in known if product != unknown]
    embed = trained([known[product] for product in others], name, seed)
    good, bad = [], []
    for views in VIEWS:
        distances = {product: embed(one.test[:, :views]) for product, one in known.items()}
        scores: dict[str, list[Array]] = {product: [] for product in known}
        for other in others:
            samples = embed(known[other].plain[:, :views])
            moments = Moments(views, 1, dimensions=samples.shape[-1])
            moments.add(samples[:, :, np.newaxis])
            gaussian = moments.gaussian()
            for product, embeddings in distances.items():
                own = np.diagonal(between_views(embeddings, gaussian), axis1=1, axis2=2)
                scores[product].append(aggregate(own, axis=-1))
        nearest = {product: np.min(each, axis=0) for product, each in scores.items()}
        good.append(np.concatenate([nearest[product] for product in others]))
        bad.append(nearest[unknown])
    return [auroc(one, other) for one, other in zip(good, bad, strict=True)]


def trained(known: list[Known], name: str, seed: int):  # type: ignore[no-untyped-def]
    """What makes embeddings (n, V, E) of features (n, V, F)."""
    if name == RAW:
        deviation = torch.cat([one.plain.flatten(0, 1) for one in known]).std(dim=0)
        return lambda features: (features / deviation).numpy()
    chosen = ProjectionSettings(tau=TAU, **VARIANTS.get(name, {}))
    settings = TrainSettings(data=DataSettings(path=Path()), projection=chosen, seed=seed)
    features = torch.cat([one.augmented for one in known])
    products = np.repeat(np.arange(len(known)), [len(one.augmented) for one in known])
    plan = Plan.of(len(features), chosen.batch, chosen.steps, seed)
    torch.manual_seed(seed)
    width, architecture = features.shape[-1], settings.architecture
    net = nn.Sequential(
        nn.Linear(width, architecture.hidden), nn.ReLU(), nn.Linear(architecture.hidden, architecture.frame)
    )
    encoder = Projector(net)
    stage = Projection(encoder, KeptViews(features, plan, seed), products, np.full(len(known), 4), settings)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=settings.weight_decay)
    for step in range(chosen.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, chosen.steps, chosen.learning_rate, settings.warmup)
        loss = supervised(stage, step) if name == SUPERVISED else stage.losses(step)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    stage.finish()

    @torch.no_grad()
    def embed(features: Tensor) -> Array:
        return F.normalize(net(features), dim=-1).numpy()

    return embed


class Projector(nn.Module):
    """Of an encoder, what the stage needs."""

    def __init__(self, projection: nn.Sequential) -> None:
        super().__init__()
        self.projection = projection

    def project(self, pooled: Tensor) -> Tensor:
        return self.projection(pooled)


def supervised(stage: Projection, step: int) -> Tensor:
    """Khosla et al., arXiv 2004.11362, eq. 2: every other view of the same product and turn is a positive."""
    indices, pooled = stage.views.draw(step)
    rows = F.normalize(stage.encoder.project(pooled).flatten(0, 1), dim=1)
    products = torch.from_numpy(stage.products[indices]).repeat_interleave(4)
    labels = (products * 4 + torch.arange(len(products)) % 4).repeat(2)
    itself = torch.eye(len(rows), dtype=torch.bool)
    logs = torch.log_softmax((rows @ rows.T / TAU).masked_fill(itself, -torch.inf), dim=1).masked_fill(itself, 0)
    positive = (labels[:, None] == labels) & ~itself
    return -((logs * positive).sum(dim=1) / positive.sum(dim=1).clamp_min(1)).mean()


def table(results: dict[str, dict[int, list[float]]], products: int) -> str:
    heads = [f"{views} view{'s' * (views > 1)}" for views in VIEWS]
    lines = [f"| mean of {products} | {' | '.join(heads)} |", f"|---|{'---|' * len(VIEWS)}"]
    for name, by_views in results.items():
        cells = []
        for values in by_views.values():
            spread = f" ({min(values):.3f}–{max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
