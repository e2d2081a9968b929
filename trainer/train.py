"""Training, from top to bottom: pictures, encoder, turns, projection, head, bases, the model on disk."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer

from quarterturn.trainer.basis import fit_bases
from quarterturn.trainer.checkpoint import Learner, load_checkpoint, save_checkpoint, save_model
from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.data import GoodParts, Pictures, Plan, find_good_parts, look_over
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.head import HeadStage, draw_examples
from quarterturn.trainer.monitor import Monitor, stop_signals
from quarterturn.trainer.projection import FreshViews, KeptViews, Projection, Views, choose_pictures, view_features
from quarterturn.trainer.promise import tell_promises
from quarterturn.trainer.rotations import TurnFeatures, measure_rotations, turn_features
from quarterturn.trainer.weights import create_encoder
from quarterturn.worker.contract.arrays import Array, Frames, Indices
from quarterturn.worker.contract.calibration import OVERKILL
from quarterturn.worker.contract.errors import ConfigError, QuarterturnError
from quarterturn.worker.contract.swap import require_replaceable
from quarterturn.worker.contract.views import ROTATIONS

log = logging.getLogger(__name__)

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LAST_RATE = 5e-4  # of the peak: where the cosine ends in the method's published code
_LARGEST_GRADIENT = 2.0  # norm to which gradients are cut for AdamW
_BASIS_PICTURES = 128  # good pictures that the bases are fitted to
_BATCH = 16  # frames that features are computed of at once
_VIEWS: Final = 4  # found more than one view on every set, see decision 29


class Stage(Protocol):
    """A part of the training that takes its own steps."""

    def losses(self, step: int) -> dict[str, Tensor]:
        """The losses of `step`, of which 'loss' is to be minimised."""
        ...

    def finish(self) -> None:
        """Make what was learned ready to serve, after the last step."""
        ...


def train(settings: TrainSettings, progress: bool = True, overkill: float = OVERKILL) -> Path:
    """Learn an encoder from pictures of good parts and write it; returns the model folder, `settings.out`.

    Deterministic: the same settings, pictures, machine and number of threads give the same weights.

    Args:
        settings: see `configs/train.yaml`.
        progress: whether to show progress bars on stderr.
        overkill: what the bank will be asked to promise; a warning says if the held-out pictures are too few for it.

    Raises:
        ConfigError: the device, a layer or the weights' package is not there, or settings do not go together.
        DataError: pictures or weights are missing, too few or unreadable, or `out` cannot be written.
        MismatchError: the weights are of another network, or the checkpoint to resume from of another recipe.
        QuarterturnError: stopped by a signal (a checkpoint is left), or the loss is no number any more.
    """
    require_replaceable(settings.out, "a model")
    settings = settings.model_copy(update={"precision": precision_of(settings)})
    parts = find_good_parts(settings.data)
    look_over(parts, settings.data)
    tell_promises(parts, settings.data.holdout, overkill)
    run = Run(settings, parts, progress)
    run.take("projection", settings.projection.steps, run.projection)
    run.take("head", settings.head.steps if settings.completed.head else 0, lambda *_: run.head())
    run.fit_bases()
    return run.save()


class Run:
    """One training run: the encoder on its way, and how many steps of all stages a checkpoint says are done."""

    def __init__(self, settings: TrainSettings, parts: GoodParts, progress: bool) -> None:
        self.settings = settings
        self.parts = parts
        self._progress = progress
        self._recipe: Mapping[str, Any] = {**settings.recipe(), "pictures": parts.fingerprint}
        self._learner = _new_learner(settings)
        self._taken = 0  # steps of the stages before
        self._losses: dict[str, float | None] = {"projection": None, "head": None}
        self.encoder = self._learner.encoder
        self._done = load_checkpoint(settings.checkpoint, self._learner, self._recipe) if settings.resume else 0
        self.encoder.backbone.hasten(settings.data.side)

    @cached_property
    def turns(self) -> dict[str, TurnFeatures]:
        """Features of pictures in their four turns; of a backbone that is trained, to be asked for at the end."""
        self.encoder.eval()
        return turn_features(self.parts, self.settings.data, self._pooled_turns)

    def distinct_turns(self) -> Indices:
        """(C,) how many quarter turns of each product become classes: those that the backbone tells apart.

        To push turns apart that look alike would teach the projection to see what is not there. A backbone that is to
        be trained tells nothing yet: then, as published, all four.
        """
        if self.settings.architecture.trained != "none":
            return np.full(len(self.parts.products), ROTATIONS)
        reports = measure_rotations(self.turns)
        for product, report in reports.items():
            log.info("%s: %d of 4 quarter turns become classes of the contrastive loss", product, report.views)
        return np.array([report.views for report in reports.values()])

    def take(self, name: str, steps: int, begin: Callable[[int, ExitStack], Stage]) -> None:
        """Take those of the steps of the stage `name` that are not done.

        `begin` makes it ready for the first of them; what it enters into the stack is left at the stage's end.
        """
        first, self._taken = min(max(self._done - self._taken, 0), steps), self._taken + steps
        if first == steps:
            return
        with stop_signals() as stopping, ExitStack() as resources:
            with Console(stderr=True, quiet=not self._progress).status(f"features for the {name}"):
                stage = begin(first, resources)
            with Monitor(name, first, steps, self.settings.tensorboard, self._progress) as monitor:
                if self.settings.architecture.trained == "none":
                    resources.enter_context(one_thread())
                self.encoder.train()
                for step in range(first, steps):
                    rate = learning_rate(step, steps, getattr(self.settings, name).learning_rate, self.settings.warmup)
                    monitor.step(step, self._minimise(stage, step, rate), rate)
                    if step + 1 < steps:
                        self._keep(self._taken - steps + step + 1, stopping())
            stage.finish()
            self._keep(self._taken, stopping())
        self._losses[name] = monitor.loss

    def projection(self, first: int, resources: ExitStack) -> Projection:
        """The stage that learns the frame's embedding."""
        settings, (paths, products) = self.settings, self.parts.to_learn
        chosen, distinct = settings.projection, self.distinct_turns()
        views: Views
        if settings.architecture.trained != "none":
            plan = Plan.of(len(paths), chosen.batch, chosen.steps, settings.seed)
            pictures = resources.enter_context(Pictures(paths, settings.data, settings.data.cache_gib))
            views = FreshViews(self.encoder, pictures, plan, settings, first)
        else:
            numbers, products = choose_pictures(self.parts, chosen.pictures)
            plan = Plan.of(len(numbers), chosen.batch, chosen.steps, settings.seed)
            features = view_features(self.encoder, self._batches(np.array(numbers)), len(numbers), settings)
            views = KeptViews(features, plan, settings.seed)
        return Projection(self.encoder, views, products, distinct, settings)

    def head(self) -> HeadStage:
        """The stage that learns to tell pasted places from others."""
        chosen, count = self.settings.head, len(self.parts.to_learn[0])
        order = Plan(count, count, 1, self.settings.seed)
        rounds = [order.pictures_of(epoch)[1] for epoch in range(-(-chosen.frames // count))]
        batches = self._batches(np.concatenate(rounds)[: chosen.frames])
        examples = draw_examples(self.encoder, batches, chosen.frames, self.settings)
        plan = Plan.of(chosen.frames, chosen.batch, chosen.steps, self.settings.seed + 1)
        return HeadStage(self.encoder, examples, plan, self.settings)

    def fit_bases(self) -> None:
        """Fit the changes of basis of all depths to good pictures."""
        paths, _ = self.parts.to_learn
        with Pictures(paths[:: 1 + len(paths) // _BASIS_PICTURES], self.settings.data) as pictures:
            fit_bases(self.encoder, pictures.batches(_BATCH))

    def save(self) -> Path:
        """Write the model, with a report on the turns of each product; returns its folder."""
        settings = self.settings
        rotations = measure_rotations(self.turns, self._embed)
        for report in rotations.values():
            log.info("%s", report.sentence)
        save_model(
            settings.out,
            self.encoder.cpu(),
            framing=settings.data.framing,
            products=self.parts.products,
            views=_VIEWS,
            holdout=settings.data.holdout,
            group=settings.data.group,
            pictures=self.parts.known,
            rotations=rotations,
            training={**self._recipe, **{f"last_loss.{name}": loss for name, loss in self._losses.items()}},
        )
        settings.checkpoint.unlink(missing_ok=True)
        return settings.out

    def _minimise(self, stage: Stage, step: int, rate: float) -> dict[str, Tensor]:
        """Learn from one batch. Returns the losses, of which 'loss' was minimised."""
        learner, precision = self._learner, _AUTOCAST[self.settings.precision]
        for group in learner.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(_device(self.settings), precision, enabled=precision is not None):
            losses = stage.losses(step)
        learner.optimiser.zero_grad()
        torch.autograd.backward(learner.scaler.scale(losses["loss"]))
        if self.settings.optimiser == "adamw":
            learner.scaler.unscale_(learner.optimiser)
            nn.utils.clip_grad_norm_(self.encoder.parameters(), _LARGEST_GRADIENT)
        learner.scaler.step(learner.optimiser)
        learner.scaler.update()
        return losses

    def _keep(self, done: int, stopped: bool) -> None:
        """Write a checkpoint now and then, and before stopping."""
        if stopped or done % self.settings.checkpoint_every == 0:
            save_checkpoint(self.settings.checkpoint, self._learner, done, self._recipe)
        if stopped:
            raise QuarterturnError(
                f"{self.settings.checkpoint}: training was stopped after {done} steps; go on with the same command "
                "and '--set resume=true' (of the demo: train.resume=true)"
            )

    def _batches(self, numbers: Indices) -> Iterator[Tensor]:
        """Frames (b, 3, S, S) uint8 of the numbered pictures, on the encoder's device: in each batch another tile."""
        with Pictures(self.parts.to_learn[0], self.settings.data) as pictures:
            batches = (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))
            for _, frames in pictures.stream(enumerate(batches)):
                yield self._on_device(frames)

    def _on_device(self, frames: Frames) -> Tensor:
        return torch.from_numpy(frames).to(next(self.encoder.parameters()).device).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _pooled_turns(self, frames: Frames) -> Array:
        """(n, S, S, 3) -> (n, 4, F): the pooled features of each turn."""
        pixels = self.encoder.normalise(self._on_device(frames))
        turned = [torch.rot90(pixels, turn, dims=(-2, -1)) for turn in range(ROTATIONS)]
        pooled = [
            self.encoder.pooled(self.encoder.features(one.contiguous(memory_format=torch.channels_last)))
            for one in turned
        ]
        return np.asarray(torch.stack(pooled, dim=1).cpu().numpy(), np.float32)

    @torch.no_grad()
    def _embed(self, pooled: Array) -> Array:
        """(n, 4, F) pooled features -> (n, 4, E) embeddings of the frame, of unit length."""
        device = next(self.encoder.parameters()).device
        vectors = self.encoder.project(torch.from_numpy(pooled).to(device))
        return np.asarray(F.normalize(vectors, dim=-1).cpu().numpy(), np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: steps of a small network end sooner so, and far sooner beside other programs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of `step`: a linear rise, then half a cosine (Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""
    rising = warmup * steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    fallen = (step - rising) / (steps - rising)
    return peak * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * fallen)) / 2)


def _new_learner(settings: TrainSettings) -> Learner:
    name = _device(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = create_encoder(settings.completed, settings.data.side, settings.weights)
    encoder.require_framing(settings.data.framing)
    torch.backends.cudnn.deterministic = True  # on a GPU, its convolutions repeat themselves too
    encoder = encoder.to(name, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(encoder, _optimiser(encoder, settings), GradScaler(name, enabled=settings.precision == "float16"))


def _optimiser(encoder: Encoder, settings: TrainSettings) -> Optimizer:
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if settings.optimiser == "sgd":
        return SGD(parameters, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay, nesterov=True)
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},  # norms and biases keep theirs
    ]
    return AdamW(groups, lr=0.0)


def _device(settings: TrainSettings) -> str:
    """The device that `settings` mean.

    Raises:
        ConfigError: it is not there.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' is set, but torch finds no NVIDIA GPU it can use; set 'device: cpu'")
    return settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def precision_of(settings: TrainSettings) -> str:
    """The precision that `settings` mean: bfloat16 takes ten times as long where a CPU has to imitate it.

    A frozen backbone's features are computed once, so rounding would save little.
    """
    if settings.architecture.trained == "none":
        return "float32"
    if settings.precision != "auto":
        return settings.precision
    if _device(settings) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
