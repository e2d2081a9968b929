"""The encoder: a backbone, and what is made of its feature maps.

From the maps come the embedding of the frame (a projection that masked contrastive learning trains), the features of
each place at some depths, and, if it is to learn from pasted defects, a logit for each place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.backbone import Backbone, create_network, listed_maps, resize_map
from quarterturn.trainer.depths import DepthSettings
from quarterturn.trainer.grids import on_grid, require_division, require_framing
from quarterturn.worker.contract.embeddings import FRAME, LOGITS, PLACES, Embeddings
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec
from quarterturn.worker.contract.views import Views, place_order, turn

_SQUEEZED = 64  # channels between the maps and the logit
_DEPTHS, _HEAD_LAYERS = "architecture.depths.", "architecture.head_layers"


class Encoder(nn.Module):
    """(N, 3, S, S) float, normalised -> the embeddings by name, as `worker.contract.embeddings` lists them.

    Its `architecture` has nothing left open; its `bases` are drawn at random until `trainer.basis` fits them.

    Args:
        architecture: its shape.
        side: S, of the frames that it is for, in pixels.
        network: the whole network of `architecture.backbone` with its weights, which the encoder takes over; None for
            random ones.

    Raises:
        ConfigError: a layer or a stride does not go with the backbone or the frame's side.
    """

    def __init__(self, architecture: Architecture, side: int, network: nn.Module | None = None) -> None:
        super().__init__()
        network = network or create_network(architecture.backbone, architecture.stem, side)
        self.architecture = architecture = architecture.completed(network)
        self.side = side
        self.depths = architecture.depths or {}
        head_layers = (architecture.head_layers or ()) if architecture.head else ()
        of_depths = [depth.layers for depth in self.depths.values()]
        self._pooled = of_depths[-1] if of_depths else (list(listed_maps(network))[-1],)
        of_places = {layer for depth in self.depths.values() for layer in depth.layers + depth.halved}
        layers = {*self._pooled, *head_layers, *of_places}
        self.backbone = Backbone(network, sorted(layers), side, architecture.trained)
        self._half_grids = self._measure_halves()
        self.places = {name: self._places(name, depth) for name, depth in self.depths.items()}

        self.projection = nn.Sequential(
            nn.Linear(self._channels(self._pooled), architecture.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(architecture.hidden, architecture.frame),
        )
        self.bases = nn.ModuleDict(
            {
                name: nn.Conv2d(self._channels(depth.layers + depth.halved), self.places[name].dimensions, 1)
                for name, depth in self.depths.items()
            }
        ).requires_grad_(False)
        self.head = Head(self.backbone, head_layers) if head_layers else None
        if self.head is not None:
            require_division(_HEAD_LAYERS, side, side // self.head.grid)

    def forward(self, pictures: Tensor, smaller: Tensor | None = None) -> dict[str, Tensor]:
        """(N, 3, S, S) -> float32 by name: (N, E), not of unit length; (N, P, D) of each depth; (N, P) logits.

        `smaller` (N, 3, S/2, S/2) are the same pictures halved, where the caller has them already.
        """
        features, halves = self.features(pictures), self.halves(pictures, smaller)
        found = {FRAME: self.project(self.pooled(features)).float()}
        for name, basis in self.bases.items():
            along_axes = basis(self.joined(features, halves, name)).float()
            found[f"{PLACES}{name}"] = along_axes.flatten(2).transpose(1, 2)
        if self.head is not None:
            found[LOGITS] = self.head(features).float().flatten(1)
        return found

    def normalise(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) RGB pixels from 0 to 255, of any dtype -> float: what the backbone's weights expect."""
        pixels = pixels if pixels.is_floating_point() else pixels.float()
        mean, std = (
            torch.tensor(values, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
            for values in (self.architecture.mean, self.architecture.std)
        )
        return (pixels - mean) / std

    def features(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) -> the map (N, C, H, H) of each of `backbone.layers`; with gradients where it is trained."""
        maps: tuple[Tensor, ...] = self.backbone(pictures)
        return maps

    @property
    def takes_halves(self) -> bool:
        """Whether a depth looks at the pictures at half their size, too."""
        return any(depth.halved for depth in self.depths.values())

    def halves(self, pictures: Tensor, smaller: Tensor | None = None) -> tuple[Tensor, ...]:
        """(N, 3, S, S) -> the same maps of the pictures at half their size, or none where no depth takes any.

        `smaller` is as in `forward`.
        """
        if not self.takes_halves:
            return ()
        return self.features(F.avg_pool2d(pictures, 2) if smaller is None else smaller)

    def pooled(self, features: tuple[Tensor, ...]) -> Tensor:
        """The maps -> (N, F): the means over all places of the deepest depth's layers, else of the backbone's last."""
        return torch.cat([features[self._index(layer)].mean(dim=(2, 3)) for layer in self._pooled], dim=1)

    @property
    def pooled_width(self) -> int:
        """F, how many pooled features a frame has."""
        return self._channels(self._pooled)

    def project(self, pooled: Tensor) -> Tensor:
        """(N, F) -> (N, E), not of unit length."""
        projections: Tensor = self.projection(pooled)
        return projections

    def joined(self, features: tuple[Tensor, ...], halves: tuple[Tensor, ...], depth: str) -> Tensor:
        """The maps -> (N, C, G, G): those of one depth, channels joined.

        Those with a whole number of places in each of its own are averaged over them, others interpolated.
        """
        taken, grid = self.depths[depth], self.places[depth].grid
        maps = [features[self._index(layer)] for layer in taken.layers]
        sides = [self.backbone.grids[self._index(layer)] for layer in taken.layers]
        maps += [halves[self._index(layer)] for layer in taken.halved]
        sides += [self._half_grids[self._index(layer)] for layer in taken.halved]
        return torch.cat([on_grid(one, side, grid) for one, side in zip(maps, sides, strict=True)], dim=1)

    def spec(self, framing: Framing, views: Views) -> EmbeddingSpec:
        """What the embeddings of frames made by `framing` mean, with so many views.

        Raises:
            ConfigError: as `require_framing` does.
        """
        self.require_framing(framing)
        logits = None if self.head is None else self.head.grid
        return EmbeddingSpec(
            framing=framing, views=views, frame=self.architecture.frame, places=self.places, logits=logits
        )

    def require_framing(self, framing: Framing) -> None:
        """Refuse a framing by which the places of this encoder's frames cannot be put together.

        Raises:
            ConfigError: names the depth and a side that would do.
        """
        grids = {f"{_DEPTHS}{name}": depth.grid for name, depth in self.places.items()}
        require_framing(grids if self.head is None else {**grids, _HEAD_LAYERS: self.head.grid}, framing)

    @torch.no_grad()
    def _measure_halves(self) -> tuple[int, ...]:
        """The side of each layer's map of a frame at half its size."""
        try:
            return tuple(found.shape[2] for found in self.halves(torch.zeros(1, 3, self.side, self.side)))
        except (AssertionError, RuntimeError, ValueError) as error:
            names = ", ".join(f"{_DEPTHS}{name}" for name, depth in self.depths.items() if depth.halved)
            raise ConfigError(
                f"{names}: the backbone takes no frames of {self.side // 2} px, half of 'data.side'; take out 'halved'"
            ) from error

    def _places(self, name: str, depth: DepthSettings) -> Depth:
        """The grid of a depth, and how many numbers a place gets."""
        where = f"{_DEPTHS}{name}"
        require_division(where, self.side, depth.stride)
        grid = self.side // depth.stride
        for layer in depth.layers:
            found = self.backbone.grids[self._index(layer)]
            if found % grid:
                raise ConfigError(
                    f"{where}: a place of layer '{layer}' is {self.side // found} px wide, so places cannot be "
                    f"{depth.stride}; set 'stride' to a multiple of {self.side // found}"
                )
        channels = self._channels(depth.layers + depth.halved)
        return Depth(grid=grid, dimensions=min(channels, self.architecture.dimensions))

    def _index(self, layer: str) -> int:
        return self.backbone.layers.index(layer)

    def _channels(self, layers: tuple[str, ...]) -> int:
        return sum(self.backbone.channels[self._index(layer)] for layer in layers)


class Head(nn.Module):
    """The backbone's maps -> (N, G, G) logits that a place shows something pasted, on the grid of the finest map used.

    A 1x1 convolution of the maps laid over each other, batch normalisation, ReLU, and a second one. The first
    is taken of each map before that is enlarged: the same sums for less work.
    """

    def __init__(self, backbone: Backbone, layers: tuple[str, ...]) -> None:
        super().__init__()
        self._maps = [backbone.layers.index(layer) for layer in layers]
        self.grid = max(backbone.grids[number] for number in self._maps)
        self._factors = [self.grid / backbone.grids[number] for number in self._maps]
        self.squeeze = nn.ModuleList(
            nn.Conv2d(backbone.channels[number], _SQUEEZED, 1, bias=False) for number in self._maps
        )
        self.norm = nn.BatchNorm2d(_SQUEEZED)
        self.logit = nn.Conv2d(_SQUEEZED, 1, 1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """The maps of all layers of the backbone -> (N, G, G)."""
        parts = zip(self.squeeze, self._maps, self._factors, strict=True)
        total, *others = (resize_map(squeeze(features[number]), factor) for squeeze, number, factor in parts)
        for part in others:
            total = total + part
        logits: Tensor = self.logit(F.relu(self.norm(total), inplace=True))
        return logits.squeeze(1)


@torch.no_grad()
def embed_views(encoder: Encoder, frames: npt.NDArray[np.uint8], views: int) -> Embeddings:
    """(B, S, S, 3) uint8 -> the embeddings of all views, turned back, the frame's of unit length: the reference.

    Made view by view from the definition, and with nothing of the engines' graph. Leaves `encoder` in evaluation mode.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    for view in range(views):
        turned = np.stack([turn(frame, view) for frame in frames])
        pictures = encoder.normalise(torch.from_numpy(turned).to(device).permute(0, 3, 1, 2))
        for name, values in encoder(pictures.contiguous(memory_format=torch.channels_last)).items():
            if name == FRAME:
                upright = F.normalize(values, dim=-1)
            else:
                upright = values[:, place_order(views, values.shape[1])[view]]
            found.setdefault(name, []).append(upright.cpu().numpy())
    return {name: np.stack(each, axis=1) for name, each in found.items()}
