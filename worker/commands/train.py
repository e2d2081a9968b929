"""`quarterturn train`: learn an encoder from good pictures."""

from __future__ import annotations

import argparse

from quarterturn.worker.commands.options import add_config, needs_extra, read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/train.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn train`: pictures and published weights -> a model folder."""
    with needs_extra("train"):
        from quarterturn.trainer.config import TrainSettings
        from quarterturn.trainer.train import train
    train(read_config(arguments, TrainSettings))
