"""Training, from top to bottom: pictures, encoder, steps, what it was good for, the rotations, the model on disk."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, AdamW, Optimizer

from trainer.basis import fit_basis, settle
from trainer.checkpoint import Learner, load_checkpoint, require_replaceable, save_checkpoint, save_model
from trainer.config import VIEWS, TrainSettings
from trainer.data import GoodParts, Indices, Pictures, Plan, find_good_parts, seeded
from trainer.encoder import Encoder, load_backbone
from trainer.monitor import Monitor, stop_signals
from trainer.objective import Batch, frame_losses, local_losses
from trainer.rotations import measure_rotations
from trainer.worth import measure_worth, training_paid
from worker.contract.errors import ConfigError, QuarterturnError
from worker.contract.views import ROTATIONS

log = logging.getLogger(__name__)

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LAST_RATE = 5e-4  # of the peak: where the cosine ends in the method's published code
_LARGEST_GRADIENT = 2.0  # norm to which gradients are cut for AdamW
_BASIS_PICTURES, _BASIS_BATCH = 128, 16  # good pictures that a basis is fitted to, and how many at once


def train(settings: TrainSettings, progress: bool = True) -> Path:
    """Learn an encoder from pictures of good parts and write it; returns the model folder, `settings.out`.

    Deterministic: the same settings, pictures, machine and number of threads give the same weights.

    Args:
        settings: see `configs/train.yaml`.
        progress: whether to show a progress bar on stderr.

    Raises:
        ConfigError: the device is not there.
        DataError: pictures or `init` weights are missing, too few or unreadable, or `out` cannot be written.
        MismatchError: `init` weights or the checkpoint to resume from are of another architecture or recipe.
        QuarterturnError: stopped by a signal (a checkpoint is left), or the loss is no number any more.
    """
    require_replaceable(settings.out)
    settings = settings.model_copy(update={"precision": _precision(settings)})
    parts = find_good_parts(settings.data)
    recipe = {**settings.recipe(), "pictures": parts.fingerprint}
    learner = _new_learner(settings)
    first = load_checkpoint(settings.checkpoint, learner, recipe) if settings.resume else 0

    last_loss = _learn(learner, parts, settings, recipe, first=first, progress=progress)

    encoder = learner.encoder
    worth: dict[str, float] = {}
    if settings.architecture.local:
        encoder, worth = _worthier(encoder, parts, settings)
    rotations = measure_rotations(encoder, parts, settings.data)
    for report in rotations.values():
        log.info("%s", report.sentence)
    save_model(
        settings.out,
        encoder.cpu(),
        framing=settings.data.framing,
        products=parts.products,
        views=max(report.views for report in rotations.values()),
        holdout=settings.data.holdout,
        rotations=rotations,
        training={**recipe, "last_loss": last_loss, **worth},
    )
    settings.checkpoint.unlink(missing_ok=True)
    return settings.out


def _worthier(encoder: Encoder, parts: GoodParts, settings: TrainSettings) -> tuple[Encoder, dict[str, float]]:
    """The local encoder ready to serve, or an untrained one where that finds about as many of the pasted defects.

    Also returns what both are worth; the trained one is compared only if it was trained.
    """
    untrained = _untrained(parts, settings)
    if settings.epochs == 0:
        return untrained, {}
    if settings.loss.dense == 0:
        _silence(encoder)
    with _basis_pictures(parts, settings) as pictures:
        fit_basis(encoder, pictures.batches(_BASIS_BATCH))
    values = [measure_worth(one, parts, settings.data.framing, settings.data.region) for one in (encoder, untrained)]
    worth = {"worth.trained": round(values[0], 4), "worth.untrained": round(values[1], 4)}
    paid = training_paid(*values)
    log.info(
        "of defects pasted into held-out good pictures the trained encoder finds %.3f, an untrained one %.3f (AUROC)%s",
        *values,
        "" if paid else "; training did not help enough, so the untrained one is kept",
    )
    return (encoder if paid else untrained), worth


def _untrained(parts: GoodParts, settings: TrainSettings) -> Encoder:
    """The local encoder as it was before the first step, with the `init` weights, ready to serve."""
    encoder = _new_learner(settings.model_copy(update={"resume": False})).encoder
    _silence(encoder)
    with _basis_pictures(parts, settings) as pictures:
        settle(encoder, pictures.batches(_BASIS_BATCH))
        fit_basis(encoder, pictures.batches(_BASIS_BATCH))
    return encoder


def _silence(encoder: Encoder) -> None:
    """Let a logit that has learned nothing say nothing: drawn at random it would vote."""
    for parameter in encoder.local.logit.parameters():
        nn.init.zeros_(parameter)


def _basis_pictures(parts: GoodParts, settings: TrainSettings) -> Pictures:
    paths, _ = parts.to_learn
    return Pictures(paths[:: 1 + len(paths) // _BASIS_PICTURES], settings.data)


def _distinct_turns(parts: GoodParts, settings: TrainSettings) -> Indices:
    """(C,) how many quarter turns of each product are classes of the contrastive loss.

    As published, all four; with local embeddings those that an untrained encoder tells apart. To push turns apart that
    look alike would teach an encoder to see what is not there.
    """
    if not settings.architecture.local or settings.loss.contrast == 0:
        return np.full(len(parts.products), ROTATIONS)
    rotations = measure_rotations(_untrained(parts, settings), parts, settings.data)
    for product, report in rotations.items():
        log.info("%s: %d of 4 quarter turns become classes of the contrastive loss", product, report.views)
    return np.array([report.views for report in rotations.values()])


def _learn(
    learner: Learner,
    parts: GoodParts,
    settings: TrainSettings,
    recipe: Mapping[str, Any],
    *,
    first: int,
    progress: bool,
) -> float | None:
    """Take the steps from number `first` on; returns the last loss shown, None if there was none."""
    paths, products = parts.to_learn
    distinct = _distinct_turns(parts, settings)
    plan = Plan(len(paths), min(settings.batch, len(paths)), settings.epochs, settings.seed)
    steps = range(first, plan.steps)
    device = next(learner.encoder.parameters()).device
    learner.encoder.train()
    with (
        Pictures(paths, settings.data, settings.data.cache_gib) as pictures,
        Monitor(first, plan.steps, settings.views_of_each * plan.batch, settings.tensorboard, progress) as monitor,
        stop_signals() as stopping,
    ):
        for step, (indices, frames) in zip(steps, pictures.stream(map(plan.pictures_of, steps)), strict=True):
            rate = learning_rate(step, plan, settings)
            for group in learner.optimiser.param_groups:
                group["lr"] = rate
            batch = Batch.of(frames, products[indices], distinct, device)
            losses = _step(learner, batch, settings, seeded(settings.seed, 1, step))
            monitor.step(step, losses, rate)
            stopped = stopping()
            if stopped or (step + 1) % (plan.epoch_steps * settings.checkpoint_every) == 0:
                save_checkpoint(settings.checkpoint, learner, step + 1, recipe)
            if stopped:
                raise QuarterturnError(
                    f"{settings.checkpoint}: training was stopped after {step + 1} of {plan.steps} steps; go on with "
                    "the same command and '--set resume=true'"
                )
    return monitor.loss


def _step(learner: Learner, batch: Batch, settings: TrainSettings, generator: torch.Generator) -> dict[str, Tensor]:
    """Learn from one batch. Returns the losses, of which 'loss' was minimised."""
    device, precision = batch.pictures.device, _AUTOCAST[settings.precision]
    losses_of = local_losses if settings.architecture.local else frame_losses
    with torch.autocast(device.type, precision, enabled=precision is not None):
        losses = losses_of(learner.encoder, batch, settings, generator)

    learner.optimiser.zero_grad()
    torch.autograd.backward(learner.scaler.scale(losses["loss"]))
    if settings.optimiser == "adamw":
        learner.scaler.unscale_(learner.optimiser)
        nn.utils.clip_grad_norm_(learner.encoder.parameters(), _LARGEST_GRADIENT)
    learner.scaler.step(learner.optimiser)
    learner.scaler.update()
    return losses


def learning_rate(step: int, plan: Plan, settings: TrainSettings) -> float:
    """The rate of `step`: a linear rise, then half a cosine (Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""
    scale = plan.batch * settings.views_of_each / (256 * VIEWS) if settings.optimiser == "sgd" else 1.0
    peak = settings.learning_rate * scale
    rising = settings.warmup * plan.steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    fallen = (step - rising) / (plan.steps - rising)
    return peak * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * fallen)) / 2)


def _new_learner(settings: TrainSettings) -> Learner:
    name = _device(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = Encoder(settings.architecture)
    if settings.init and not settings.resume:
        load_backbone(encoder, settings.init)
    torch.backends.cudnn.deterministic = True  # on a GPU, its convolutions repeat themselves too
    encoder = encoder.to(name, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(encoder, _optimiser(encoder, settings), GradScaler(name, enabled=settings.precision == "float16"))


def _optimiser(encoder: Encoder, settings: TrainSettings) -> Optimizer:
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if settings.optimiser == "sgd":
        return SGD(
            parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=True,
        )
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},  # norms and biases keep theirs
    ]
    return AdamW(groups, lr=settings.learning_rate)


def _device(settings: TrainSettings) -> str:
    """The device that `settings` mean.

    Raises:
        ConfigError: it is not there.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' is set, but torch finds no NVIDIA GPU it can use; set 'device: cpu'")
    return settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _precision(settings: TrainSettings) -> str:
    """The precision that `settings` mean: bfloat16 takes ten times as long where a CPU has to imitate it."""
    if settings.precision != "auto":
        return settings.precision
    if _device(settings) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
