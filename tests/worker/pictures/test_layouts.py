"""The layouts of known sets, and of folders in which bad pictures lie among good ones."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pictures.sets import good_pictures, mask_paths
from quarterturn.worker.pictures.sets import test_pictures as labelled_pictures

Test = dict[str, tuple[str, str, str]]
"""By test picture: its product, its type and its masks, joined by a space."""


def touch(root: Path, names: str) -> Path:
    for name in names.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def learned(root: Path) -> dict[str, str]:
    """By product, the good pictures, joined by a space."""
    found = good_pictures(root)
    return {name: " ".join(path.relative_to(root).as_posix() for path in paths) for name, paths in found.items()}


def labels_of(root: Path) -> Test:
    return {
        one.path.relative_to(root).as_posix(): (
            one.product,
            one.defect,
            " ".join(path.relative_to(root).as_posix() for path in mask_paths(root, one)),
        )
        for one in labelled_pictures(root)
    }


@pytest.mark.parametrize(
    ("names", "good", "test"),
    [
        pytest.param(
            "train/ok/0.bmp train/ok/1.bmp test/ok/5.bmp test/ko/7.bmp ground_truth/ko/7.png",
            {"set": "train/ok/0.bmp train/ok/1.bmp"},
            {"test/ok/5.bmp": ("set", "good", ""), "test/ko/7.bmp": ("set", "ko", "ground_truth/ko/7.png")},
            id="BTAD",
        ),
        pytest.param(
            "train/good/0.png validation/good/1.png test/good/0.png test/logical_anomalies/0.png "
            "test/structural_anomalies/0.png ground_truth/logical_anomalies/0/000.png "
            "ground_truth/logical_anomalies/0/001.png ground_truth/structural_anomalies/0/000.png",
            {"set": "train/good/0.png"},
            {
                "test/good/0.png": ("set", "good", ""),
                "test/logical_anomalies/0.png": (
                    "set",
                    "logical_anomalies",
                    "ground_truth/logical_anomalies/0/000.png ground_truth/logical_anomalies/0/001.png",
                ),
                "test/structural_anomalies/0.png": (
                    "set",
                    "structural_anomalies",
                    "ground_truth/structural_anomalies/0/000.png",
                ),
            },
            id="MVTec LOCO",
        ),
        pytest.param(
            "train/good/0_regular.png validation/good/1.png test_public/good/0.png test_public/bad/0_regular.png "
            "test_public/ground_truth/bad/0_regular_mask.png test_private/0.png test_private_mixed/0.png",
            {"set": "train/good/0_regular.png"},
            {
                "test_public/good/0.png": ("set", "good", ""),
                "test_public/bad/0_regular.png": (
                    "set",
                    "bad",
                    "test_public/ground_truth/bad/0_regular_mask.png",
                ),
            },
            id="MVTec AD 2",
        ),
        pytest.param(
            "pcb/train/good/0.JPG pcb/test/good/1.JPG pcb/test/bad/2.JPG pcb/ground_truth/bad/2.png "
            "nut/train/good/0.JPG nut/test/bad/2.JPG",
            {"nut": "nut/train/good/0.JPG", "pcb": "pcb/train/good/0.JPG"},
            {
                "nut/test/bad/2.JPG": ("nut", "bad", ""),
                "pcb/test/bad/2.JPG": ("pcb", "bad", "pcb/ground_truth/bad/2.png"),
                "pcb/test/good/1.JPG": ("pcb", "good", ""),
            },
            id="VisA's 1cls",
        ),
        pytest.param(
            "Data/Images/Normal/0.JPG Data/Images/Normal/1.JPG Data/Images/Anomaly/0.JPG Data/Masks/Anomaly/0.png",
            {"set": "Data/Images/Normal/0.JPG Data/Images/Normal/1.JPG"},
            {"Data/Images/Anomaly/0.JPG": ("set", "anomaly", "Data/Masks/Anomaly/0.png")},
            id="VisA without its table",
        ),
        pytest.param(
            "normal/0.png abnormal/0.png abnormal/1.png masks/0.png",
            {"set": "normal/0.png"},
            {"abnormal/0.png": ("set", "abnormal", "masks/0.png"), "abnormal/1.png": ("set", "abnormal", "")},
            id="anomalib's folders",
        ),
        pytest.param(
            "good/0.png bad/0.png ng/0.png ground_truth/bad/0_mask.tif ground_truth/0.png",
            {"set": "good/0.png"},
            {"bad/0.png": ("set", "bad", "ground_truth/bad/0_mask.tif"), "ng/0.png": ("set", "ng", "")},
            id="anomalib's folders, of two kinds",
        ),
        pytest.param(
            "nut/OK/0.png nut/NOK/0.png bolt/OK/1.png bolt/NOK/1.png",
            {"bolt": "bolt/OK/1.png", "nut": "nut/OK/0.png"},
            {"bolt/NOK/1.png": ("bolt", "NOK", ""), "nut/NOK/0.png": ("nut", "NOK", "")},
            id="good beside bad, several products",
        ),
        pytest.param(
            "a/train/0.png a/test/good/1.png a/test/dent/2.png b/train/0.png",
            {"a": "a/train/0.png", "b": "b/train/0.png"},
            {"a/test/dent/2.png": ("a", "dent", ""), "a/test/good/1.png": ("a", "good", "")},
            id="train without folders, several products",
        ),
        pytest.param(
            "train/good/0.png test/dent/0.png test/dent/0_GT.png test/dent/front_label.png",
            {"set": "train/good/0.png"},
            {
                "test/dent/0.png": ("set", "dent", "test/dent/0_GT.png"),
                "test/dent/front_label.png": ("set", "dent", ""),
            },
            id="masks beside test pictures",
        ),
    ],
)
def test_known_layouts_are_understood(tmp_path: Path, names: str, good: dict[str, str], test: Test) -> None:
    root = touch(tmp_path / "set", names)
    assert learned(root) == good
    assert labels_of(root) == test


def test_visas_table_says_what_is_to_train(tmp_path: Path) -> None:
    root = tmp_path / "VisA"
    pictures = [f"Data/Images/{kind}/{number}.JPG" for kind in ("Normal", "Anomaly") for number in range(3)]
    for product in ("candle", "pcb1"):
        touch(root / product, " ".join(pictures))
    touch(root, "candle/Data/Masks/Anomaly/0.png")
    (root / "split_csv").mkdir()
    lines = ["object,split,label,image,mask"]
    for product, in_training in (("candle", "02"), ("pcb1", "1")):
        for number in "012":
            part = "train" if number in in_training else "test"
            lines.append(f"{product},{part},normal,{product}/Data/Images/Normal/{number}.JPG,")
            bad = f"{product}/Data/Images/Anomaly/{number}.JPG"
            lines.append(f"{product},test,anomaly,{bad},{product}/Data/Masks/Anomaly/{number}.png")
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines), encoding="utf-8")

    normal = "Data/Images/Normal"
    assert learned(root) == {
        "candle": f"candle/{normal}/0.JPG candle/{normal}/2.JPG",
        "pcb1": f"pcb1/{normal}/1.JPG",
    }
    found = labels_of(root)
    assert {path for path, (_, kind, _) in found.items() if kind == "good"} == {
        f"candle/{normal}/1.JPG",
        f"pcb1/{normal}/0.JPG",
        f"pcb1/{normal}/2.JPG",
    }
    bad = {path: masks for path, (_, kind, masks) in found.items() if kind == "anomaly"}
    assert len(bad) == 6
    assert bad["candle/Data/Images/Anomaly/0.JPG"] == "candle/Data/Masks/Anomaly/0.png"
    assert learned(root / "candle") == {"candle": f"{normal}/0.JPG {normal}/2.JPG"}


@pytest.mark.parametrize(
    "content", [b"", b"object,split\ncandle,train\n", b"\xff\xfe", b'"', b"object,split,label,image\ncandle"]
)
def test_another_table_than_visas_is_told(tmp_path: Path, content: bytes) -> None:
    root = touch(tmp_path / "VisA", "candle/Data/Images/Normal/0.JPG split_csv/1cls.csv")
    (root / "split_csv" / "1cls.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"1cls\.csv: is not the table of VisA's split"):
        good_pictures(root)


def write_mask(path: Path, *marked: int) -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[:, list(marked)] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())


def test_kolektor2_is_bad_where_its_mask_is_not_black(tmp_path: Path) -> None:
    root = touch(tmp_path / "kolektor", "train/1.png train/2.png train/3.png test/4.png test/5.png")
    for name, marked in {"train/1": (), "train/2": (3,), "train/3": (), "test/4": (), "test/5": (0, 1)}.items():
        write_mask(root / f"{name}_GT.png", *marked)
    assert learned(root) == {"kolektor": "train/1.png train/3.png"}
    assert labels_of(root) == {
        "test/4.png": ("kolektor", "good", "test/4_GT.png"),
        "test/5.png": ("kolektor", "defect", "test/5_GT.png"),
    }
    (root / "train" / "3_GT.png").unlink()
    with pytest.raises(DataError, match=r"train/3\.png: has no mask beside it, as others have"):
        good_pictures(root)


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
@pytest.mark.parametrize("good", ["good", "Good", "GOOD", "goods", "ok", "OK", "normal", "Normals"])
def test_good_is_good_however_it_is_spelt(tmp_path: Path, train: str, good: str) -> None:
    root = touch(tmp_path / "set", f"{train}/{good}/0.png test/{good}/1.png test/dent/2.png")
    assert learned(root) == {"set": f"{train}/{good}/0.png"}
    assert labels_of(root) == {f"test/{good}/1.png": ("set", "good", ""), "test/dent/2.png": ("set", "dent", "")}


@pytest.mark.parametrize("ending", ["", "_mask", "_MASK", "-mask", "_GT", "_gt", "_label", "_ground_truth"])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".TIFF", ".jpg"])
@pytest.mark.parametrize("folder", ["ground_truth", "Ground_Truth", "masks", "mask", "gt"])
def test_masks_are_found_under_any_suffix(tmp_path: Path, ending: str, suffix: str, folder: str) -> None:
    mask = f"{folder}/dent/007{ending}{suffix}"
    root = touch(tmp_path / "set", f"train/good/0.png test/dent/007.jpg {mask} {folder}/dent/0070{suffix}")
    assert labels_of(root) == {"test/dent/007.jpg": ("set", "dent", mask)}


WANTED = r".*lay the pictures out as train/good, .*docs/data\.md"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("nut/0.png bolt/Defects/0.png", "bolt/Defects: by its name holds bad parts" + WANTED),
        ("good/0.png scratch/0.png", "good: lies beside others, which by its name hold no good parts" + WANTED),
        ("OK/0.png nuts/0.png", "OK: lies beside others" + WANTED),
        ("nut/good/0.png nut/scratch/0.png", "nut/good: lies beside others" + WANTED),
        ("nut/normal/0.png nut/1.png", "nut/(normal: lies beside others|1.png: lies beside folders)"),
        ("train/good/0.png train/scratch/0.png", "train/good: lies beside others" + WANTED),
        ("train/good/0.png train/1.png", r"train/1\.png: lies beside folders of training pictures"),
        ("train/nut/0.png train/1.png", r"train/1\.png: lies beside folders of products, so nobody knows"),
        ("nut/0.png 1.png", r"1\.png: lies beside folders of products"),
        (
            "test/good/0.png test/dent/1.png",
            r"set: of 'set' holds test pictures alone, and none to learn from; add train",
        ),
        ("nut/test/good/0.png bolt/train/good/0.png", "set: of 'nut' holds test pictures alone"),
        ("nut/train/good/0.png bolt/0.png", "bolt: lies beside nut/, but is not laid out like it; give it train/good"),
        ("0.png 0_mask.png", r"0_mask\.png: is named as a mask, and lies among good pictures" + WANTED),
        ("nut/0.jpg nut/0_label.bmp", r"0_label\.bmp: is named as a mask" + WANTED),
        ("nut/0_GT.png", r"0_GT\.png: is named as a mask" + WANTED),
        ("train/good/0.png train/good/0_GT.png", r"0_GT\.png: is named as a mask" + WANTED),
        ("train/good/a/0.png train/good/masks/0.png", "train/good/masks: by its name holds masks" + WANTED),
        ("nut/2024/good/0.png nut/2024/dent/0.png", "nut/2024/good: lies beside others" + WANTED),
        ("nut/train/a/0.png nut/test/a/0.png", "nut/(train|test): by its name holds"),
    ],
)
def test_bad_pictures_are_not_learned_from(tmp_path: Path, names: str, sentence: str) -> None:
    root = touch(tmp_path / "set", names)
    with pytest.raises(DataError, match=sentence):
        good_pictures(root)


@pytest.mark.parametrize("where", ["{}/0.png nut/0.png", "train/{}/0.png train/nut/0.png", "nut/{}/0.png nut/a/0.png"])
@pytest.mark.parametrize(
    ("name", "held"),
    [
        *(
            (name, "bad parts")
            for name in (
                *("bad", "BAD", "ng", "NG", "nok", "not_ok", "ko", "defect", "Defects", "defective", "anomaly"),
                *("anomalies", "abnormal", "reject", "rejected", "Rejects", "faulty", "scrap", "bad_01", "fail"),
            )
        ),
        *((name, "masks") for name in ("mask", "Masks", "ground_truth", "Ground Truth", "gt", "annotations")),
        *((name, "test pictures") for name in ("test", "Test", "val", "validation", "test_private")),
    ],
)
def test_no_product_is_called_so(tmp_path: Path, where: str, name: str, held: str) -> None:
    root = tmp_path / "set"
    for part in where.split():
        path = root / part.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(DataError, match=f"by its name holds {held}|holds test pictures alone"):
        good_pictures(root)


@pytest.mark.parametrize(
    "name", ["scratches", "labels", "badge", "okra", "tester", "normalised", "goodyear", "masking tape", "kong", "7"]
)
def test_products_may_be_called_so(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "set" / name / "front_label.png", tmp_path / "set" / "nut" / "0.png"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert set(good_pictures(tmp_path / "set")) == {name, "nut"}


def test_pictures_directly_in_test_are_neither_good_nor_bad(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "train/good/0.png test/good/0.png test/1.png")
    with pytest.raises(DataError, match=r"test/1\.png: lies beside folders of test pictures, so nobody knows"):
        labelled_pictures(root)
    assert learned(root) == {"set": "train/good/0.png"}


def test_two_folders_of_one_name_are_told(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        touch(tmp_path / unicodedata.normalize(form, "Öse"), "0.png")
    with pytest.raises(DataError, match="there are two folders of this name, written in other characters; join them"):
        good_pictures(tmp_path)


def test_a_linked_product_is_named_by_its_link(tmp_path: Path) -> None:
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "nut").symlink_to(touch(tmp_path / "nut-2024", "train/good/0.png test/dent/1.png"))
    assert list(good_pictures(tmp_path / "plant")) == ["nut"]
    assert [one.product for one in labelled_pictures(tmp_path / "plant")] == ["nut"]
