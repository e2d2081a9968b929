"""The encoder that speed is measured with, as the command line asks. Nothing in it is trained: speed is the same."""

from __future__ import annotations

import argparse

import torch

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.weights import PACKAGED, create_encoder
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import EmbeddingSpec


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Add the options of `untrained_encoder`, and the views that it is run with."""
    parser.add_argument("--backbone", default=Architecture().backbone)
    parser.add_argument("--stem", default="own")
    parser.add_argument("--whole", action="store_true", help="the embedding of the whole frame alone, without places")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--views", type=int, default=4)


def untrained_encoder(arguments: argparse.Namespace) -> Encoder:
    """The same at each call, its backbone's weights those of the package if there is one; in evaluation mode."""
    torch.manual_seed(0)
    whole = {"depths": {}, "head": False} if arguments.whole else {}
    architecture = Architecture.model_validate({"backbone": arguments.backbone, "stem": arguments.stem, **whole})
    weights = "package" if arguments.backbone in PACKAGED else "none"
    return create_encoder(architecture, arguments.side, weights).eval()


def spec_of(encoder: Encoder, arguments: argparse.Namespace) -> EmbeddingSpec:
    """What its embeddings mean."""
    return encoder.spec(Framing(side=encoder.side), arguments.views)


def said(arguments: argparse.Namespace) -> str:
    """The options in words, for the line above a table."""
    places = "whole frames alone" if arguments.whole else "all depths and logits"
    return (
        f"{arguments.backbone}, {arguments.stem} stem, {places}, {arguments.side}x{arguments.side} pixels, "
        f"{arguments.views} views"
    )
