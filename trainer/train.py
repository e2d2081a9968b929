"""Training, from top to bottom: pictures, encoder, steps, the look at the rotations, the model on disk."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import SGD

from trainer.augment import VIEWS, augment
from trainer.checkpoint import Learner, load_checkpoint, require_replaceable, save_checkpoint, save_model
from trainer.config import TrainSettings
from trainer.data import Frames, GoodParts, Pictures, Plan, Turns, find_good_parts, seeded
from trainer.encoder import Encoder, load_backbone, normalise
from trainer.loss import draw_partners, masked_contrastive_loss
from trainer.monitor import Monitor, stop_signals
from trainer.rotations import measure_rotations
from worker.contract.errors import ConfigError, QuarterturnError
from worker.contract.views import ROTATIONS

log = logging.getLogger(__name__)

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LAST_RATE = 5e-4  # of the peak: where the cosine ends in the method's published code


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
    parts = find_good_parts(settings.data)
    recipe = {**settings.recipe(), "pictures": parts.fingerprint}
    learner = _new_learner(settings)
    first = load_checkpoint(settings.checkpoint, learner, recipe) if settings.resume else 0

    last_loss = _learn(learner, parts, settings, recipe, first=first, progress=progress)

    rotations = measure_rotations(learner.encoder, parts, settings.data)
    for report in rotations.values():
        log.info("%s", report.sentence)
    save_model(
        settings.out,
        learner.encoder.cpu(),
        side=settings.data.side,
        products=parts.products,
        views=max(report.views for report in rotations.values()),
        holdout=settings.data.holdout,
        rotations=rotations,
        training={**recipe, "last_loss": last_loss},
    )
    settings.checkpoint.unlink(missing_ok=True)
    return settings.out


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
    plan = Plan(len(paths), min(settings.batch, len(paths)), settings.epochs, settings.seed)
    steps = range(first, plan.steps)
    learner.encoder.train()
    with (
        Pictures(paths, settings.data, settings.data.cache_gib) as pictures,
        Monitor(first, plan.steps, VIEWS * ROTATIONS * plan.batch, settings.tensorboard, progress) as monitor,
        stop_signals() as stopping,
    ):
        for step, (indices, frames) in zip(steps, pictures.stream(map(plan.indices, steps)), strict=True):
            rate = learning_rate(step, plan, settings)
            for group in learner.optimiser.param_groups:
                group["lr"] = rate
            turns = Turns.of_pictures(products[indices], len(parts.products))
            losses = _step(learner, frames, turns, settings, seeded(settings.seed, 1, step))
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


def _step(
    learner: Learner, frames: Frames, turns: Turns, settings: TrainSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """Learn from one batch of (B, S, S, 3) frames. Returns the losses, of which 'loss' was minimised."""
    device, precision = next(learner.encoder.parameters()).device, _AUTOCAST[settings.precision]
    pictures = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
    views = augment(pictures, settings.augment, generator).flatten(0, 1)
    with torch.autocast(device.type, precision, enabled=precision is not None):
        projections = learner.encoder(normalise(views).contiguous(memory_format=torch.channels_last))
    ccm, spa = masked_contrastive_loss(
        projections.unflatten(0, (VIEWS, -1)),
        turns.labels.to(device),
        turns.products.to(device),
        draw_partners(turns.labels, generator).to(device),
        alpha=settings.loss.alpha,
        beta=settings.loss.beta,
        tau=settings.loss.tau,
    )
    loss = ccm + settings.loss.spa * spa

    learner.optimiser.zero_grad()
    torch.autograd.backward(learner.scaler.scale(loss))
    learner.scaler.step(learner.optimiser)
    learner.scaler.update()
    return {"loss": loss, "ccm": ccm, "spa": spa}


def learning_rate(step: int, plan: Plan, settings: TrainSettings) -> float:
    """The rate of `step`: a linear rise, then half a cosine (Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""
    peak = settings.learning_rate * plan.batch * ROTATIONS / 256
    rising = settings.warmup * plan.steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    fallen = (step - rising) / (plan.steps - rising)
    return peak * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * fallen)) / 2)


def _new_learner(settings: TrainSettings) -> Learner:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' is set, but torch finds no NVIDIA GPU it can use; set 'device: cpu'")
    name = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = Encoder(settings.architecture)
    if settings.init and not settings.resume:
        load_backbone(encoder, settings.init)
    torch.backends.cudnn.deterministic = True  # on a GPU, its convolutions repeat themselves too
    encoder = encoder.to(name, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = SGD(
        encoder.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=True,
    )
    return Learner(encoder, optimiser, GradScaler(name, enabled=settings.precision == "float16"))
