"""The ways in which the pictures of one product are laid out: one row of `LAYOUTS` each; docs/data.md shows them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pictures.folder_names import (
    BADS,
    GOOD,
    GOODS,
    MASKS,
    TEST,
    TRAIN,
    learned_in,
    masks_among,
    named,
    require_no_good_among,
    require_no_pictures,
    type_of,
    word_of,
)
from quarterturn.worker.pictures.folders import folders_in, holds_pictures, list_pictures, pictures_in

Labelled = tuple[Path, str]
"""A test picture and its type, "good" or that of the defect."""


class Layout(NamedTuple):
    """One way to lay out a product: whether a folder is laid out so, its good pictures, its test pictures."""

    is_here: Callable[[Path], bool]
    good: Callable[[Path], list[Path]]
    test: Callable[[Path], list[Labelled]]


def layout_of(folder: Path) -> Layout | None:
    """How the product in `folder` is laid out; None where it is in none of the `LAYOUTS`."""
    return next((layout for layout in LAYOUTS.values() if layout.is_here(folder)), None)


def train_in(folder: Path) -> Path | None:
    """The folder `train` in `folder`, however it is spelt."""
    return next(iter(named(folder, TRAIN)), None)


def tests_in(folder: Path) -> list[Path]:
    """The folders of test pictures in `folder`/test.

    Raises:
        DataError: pictures lie beside them.
    """
    found = []
    for test in named(folder, TEST):
        require_no_pictures(test, "folders of test pictures")
        found += [child for child in folders_in(test) if word_of(child) not in MASKS]
    return found


def to_test(folders: Iterable[Path]) -> list[Labelled]:
    """The test pictures in folders that are called by their type, without masks beside them."""
    found = []
    for folder in folders:
        pictures = list_pictures(folder)
        masks = masks_among(pictures)
        found += [(path, type_of(folder)) for path in pictures if path not in masks]
    return found


def _is_mvtec(folder: Path) -> bool:
    train = train_in(folder)
    return train is not None and bool(named(train, GOODS))


def _mvtec_good(folder: Path) -> list[Path]:
    good = []
    for train in named(folder, TRAIN):
        require_no_pictures(train, "folders of training pictures")
        require_no_good_among([child for child in folders_in(train) if holds_pictures(child)])
        good += [path for child in named(train, GOODS) for path in learned_in(child)]
    return good


def _is_plain_train(folder: Path) -> bool:
    train = train_in(folder)
    return train is not None and bool(pictures_in(train)) and not folders_in(train)


def _is_good_beside_bad(folder: Path) -> bool:
    words = {word_of(child) for child in folders_in(folder) if holds_pictures(child)}
    return bool(words & GOODS) and words <= GOODS | BADS | MASKS


def _good_beside_bad(folder: Path) -> list[Path]:
    require_no_pictures(folder, "folders of good and bad pictures")
    return [path for good in named(folder, GOODS) for path in learned_in(good)]


def _visa_split(folder: Path) -> list[tuple[Path, str, str]]:
    """Picture, "train" or "test", "normal" or "anomaly", as the set's table says; without it the good are to train."""
    product = folder.resolve()
    table = product.parent / "split_csv" / "1cls.csv"
    if table.is_file():
        try:
            with table.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["object"] == product.name]
            split = [(folder.joinpath(*Path(row["image"]).parts[1:]), row["split"], row["label"]) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            split = []
        if not split:
            raise DataError(f"{table}: is not the table of VisA's split of '{product.name}'; load the set anew")
        return split
    images = folder / "Data" / "Images"
    bad = images / "Anomaly"
    return [(path, "train", "normal") for path in list_pictures(images / "Normal")] + [
        (path, "test", "anomaly") for path in (list_pictures(bad) if bad.is_dir() else [])
    ]


def _visa_good(folder: Path) -> list[Path]:
    return sorted(path for path, split, label in _visa_split(folder) if (split, label) == ("train", "normal"))


def _visa_test(folder: Path) -> list[Labelled]:
    test = [(path, label) for path, split, label in _visa_split(folder) if split == "test"]
    return sorted((path, GOOD if label == "normal" else label) for path, label in test)


def _is_kolektor(folder: Path) -> bool:
    train = train_in(folder)
    return train is not None and bool(masks_among(pictures_in(train)))


def _kolektor(folder: Path, part: Iterable[str]) -> list[Labelled]:
    """The pictures of train/ or test/: each is a defect where its mask beside it is not all black."""
    found = []
    for pictures in map(pictures_in, named(folder, part)):
        masks = {picture: mask for mask, picture in masks_among(pictures).items()}
        for path in sorted(set(pictures) - set(masks.values())):
            if path not in masks:
                raise DataError(f"{path}: has no mask beside it, as others have, so nobody knows whether it is good")
            found.append((path, "defect" if _shows_something(masks[path]) else GOOD))
    return found


def _shows_something(mask: Path) -> bool:
    pixels = cv2.imdecode(np.fromfile(mask, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DataError(f"{mask}: is no picture; replace it")
    return bool(pixels.any())


LAYOUTS = {
    "VisA": Layout(lambda folder: (folder / "Data" / "Images" / "Normal").is_dir(), _visa_good, _visa_test),
    "KolektorSDD2": Layout(
        _is_kolektor,
        lambda folder: [path for path, kind in _kolektor(folder, TRAIN) if kind == GOOD],
        lambda folder: _kolektor(folder, TEST),
    ),
    "MVTec": Layout(_is_mvtec, _mvtec_good, lambda folder: to_test(tests_in(folder))),
    "train without folders": Layout(
        _is_plain_train,
        lambda folder: [path for train in named(folder, TRAIN) for path in learned_in(train)],
        lambda folder: to_test(tests_in(folder)),
    ),
    "good beside bad": Layout(_is_good_beside_bad, _good_beside_bad, lambda folder: to_test(named(folder, BADS))),
    "test alone": Layout(
        lambda folder: train_in(folder) is None and bool(named(folder, TEST)),
        lambda _: [],
        lambda folder: to_test(tests_in(folder)),
    ),
}
