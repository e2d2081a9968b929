"""Which pictures a folder holds: of which product, good or not, and the masks of the bad ones.

A folder is one product in one of the `layouts.LAYOUTS`, or holds several such folders side by side, or is one of these:

- `train/<product>/*`, `test/<product>/*`: products only, every picture is good;
- `<product>/*` or pictures directly in the folder: products only, nothing to test on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.splits import composed, hold_out, split_held_out
from quarterturn.worker.pictures.folder_names import (
    GOOD,
    GOODS,
    MASKS,
    learned_in,
    named,
    picture_of,
    require_good_name,
    require_no_good_among,
    require_no_pictures,
    type_of,
    word_of,
)
from quarterturn.worker.pictures.folders import SUFFIXES, folders_in, holds_pictures, list_pictures, pictures_in
from quarterturn.worker.pictures.layouts import Layout, layout_of, tests_in, to_test, train_in

__all__ = [
    "GOOD",
    "SUFFIXES",
    "TestPicture",
    "good_pictures",
    "hold_out",
    "list_pictures",
    "mask_paths",
    "split_held_out",
    "test_pictures",
]


@dataclass(frozen=True, slots=True)
class TestPicture:
    """A labelled picture: its product and its defect type ("good" for a good part)."""

    __test__ = False  # not a pytest class

    path: Path
    product: str
    defect: str


def good_pictures(root: Path, *, needed: bool = True) -> dict[str, list[Path]]:
    """The good pictures to learn from, by product (sorted).

    Where none are `needed`, products with test pictures alone are left out instead of refused.

    Raises:
        DataError: the folder is missing, empty, or laid out so that bad pictures or masks might be learned from, or a
            product has a name that a frame's header cannot carry.
    """
    found = _good_pictures(root)
    for product, pictures in found.items():
        _require_nameable(product, root)
        if needed and not pictures:
            raise DataError(f"{root}: of '{product}' holds test pictures alone, and none to learn from; add train/good")
    return {product: pictures for product, pictures in sorted(found.items()) if pictures}


def _good_pictures(root: Path) -> dict[str, list[Path]]:
    products = _products(root)
    if products:
        return {name: layout.good(folder) for name, (folder, layout) in products.items()}
    # Below train/ only, where there is one: beside it lie the test pictures, and those must never count as good.
    folder = train_in(root) or root
    children = folders_in(folder)
    if not children:
        return {_name(root): learned_in(folder)}
    require_no_good_among(children)
    for child in children:
        require_good_name(child)
    require_no_pictures(folder, "folders of products")
    return {name: learned_in(child) for name, child in _by_name(children).items()}


def test_pictures(root: Path) -> list[TestPicture]:
    """The labelled test pictures below `root`, sorted by product, type and name.

    Raises:
        DataError: the folder is missing, or holds none.
    """
    products = _products(root)
    found = [
        TestPicture(path, name, defect)
        for name, (folder, layout) in products.items()
        for path, defect in layout.test(folder)
    ]
    if not products and train_in(root):
        known = good_pictures(root)
        for child in tests_in(root):
            kind = type_of(child)
            product, defect = (kind, GOOD) if kind in known else (_name(root), kind)
            found += [TestPicture(path, product, defect) for path, _ in to_test([child])]
    if not found:
        raise DataError(f"{root}: holds no test/<type>/ folder with pictures; see docs/data.md for the layouts")
    return found


test_pictures.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def mask_paths(root: Path, picture: TestPicture) -> list[Path]:
    """The files that together are the mask of a test picture below `root`, sorted; empty where there is none.

    That of `test/<type>/<name>.*` is `ground_truth/<type>/<name>.*`, `<name>_mask.*` there, or all pictures in a folder
    `<name>` there; of other layouts see docs/data.md.
    """
    stem = picture.path.stem
    for folder, lone in _mask_places(root, picture.path):
        if not folder.is_dir():
            continue
        if (parts := folder / stem).is_dir():  # MVTec LOCO: a file for each defect of the picture
            return list_pictures(parts)
        files = [path for path in pictures_in(folder) if path != picture.path]
        found = [path for path in files if lone and path.stem == stem]
        if found := found or [path for path in files if picture_of(path) == stem]:
            return found
    return []


def _mask_places(root: Path, picture: Path) -> Iterator[tuple[Path, bool]]:
    """Folders that may hold the mask of `picture`, the nearest first; whether it may have the picture's name."""
    for above in [one for one in picture.parents if one.is_relative_to(root)][1:]:
        kind = picture.parent.relative_to(above).parts
        for masks in named(above, MASKS):
            yield masks.joinpath(*kind), True
            if kind[1:] or sum(word_of(one) not in GOODS | MASKS for one in folders_in(above)) == 1:
                yield masks.joinpath(*kind[1:]), True  # without test/ or Images/, or the only type there is
    if picture.is_relative_to(root):
        yield picture.parent, False


def _products(root: Path) -> dict[str, tuple[Path, Layout]]:
    """The folders below `root` that hold one product each, in a known layout, by the product's name."""
    if (layout := layout_of(root)) is not None:
        return {_name(root): (root, layout)}
    if train_in(root) is not None:
        return {}
    layouts = {name: (child, layout_of(child)) for name, child in _by_name(folders_in(root)).items()}
    found = {name: (child, layout) for name, (child, layout) in layouts.items() if layout is not None}
    for child, layout in layouts.values() if found else ():
        if layout is None and holds_pictures(child):
            raise DataError(
                f"{child}: lies beside {next(iter(found))}/, but is not laid out like it; give it train/good, or move "
                "it away"
            )
    if found:
        require_no_pictures(root, "folders of products")
    return found


def _require_nameable(product: str, root: Path) -> None:
    """Refuse a product that no frame on the line could name: people would type, and logs show, another one."""
    if not product.isprintable() or not product or product != " ".join(product.split()):
        shown = product.encode(errors="backslashreplace").decode()
        raise DataError(
            f"{root}: the product {shown!r} has a name with spaces or characters that cannot be seen; "
            "rename its folder to letters, digits and single spaces"
        )


def _by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by the names of their products."""
    found: dict[str, Path] = {}
    for folder in folders:
        if found.setdefault(composed(folder.name), folder) != folder:
            raise DataError(f"{folder}: there are two folders of this name, written in other characters; join them")
    return dict(sorted(found.items()))


def _name(folder: Path) -> str:
    """The name of a product alone: its folder's, in Unicode's composed form, as keyboards write it."""
    return composed(folder.resolve().name)
