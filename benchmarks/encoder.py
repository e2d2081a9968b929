"""The encoder that speed is measured with, as the command line asks: its weights are random, speed is the same."""

from __future__ import annotations

import argparse

import torch

from trainer.encoder import Architecture, Encoder


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Add the options of `random_encoder`, and the side and views that it is run with."""
    parser.add_argument("--network", default="resnet10")
    parser.add_argument("--whole", action="store_true", help="one embedding of the whole frame")
    parser.add_argument("--padding", default="zeros")
    parser.add_argument("--stem", default="imagenet")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--views", type=int, default=4)


def random_encoder(arguments: argparse.Namespace) -> Encoder:
    """The same weights at each call."""
    torch.manual_seed(0)
    return Encoder(
        Architecture(
            network=arguments.network,
            stem=arguments.stem,
            width=arguments.width,
            dimensions=64,
            local=not arguments.whole,
            padding=arguments.padding,
        )
    )
