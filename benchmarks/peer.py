"""Fits and scores one model of anomalib; run by `benchmarks.peers` with the Python of an environment that has anomalib.

    PYTHON -m benchmarks.peer fit padim SIDE FOLDER WEIGHTS OUT
    PYTHON -m benchmarks.peer score OUT FOLDER

SIDE is its frames' in pixels, FOLDER is laid out as MVTec's sets are, WEIGHTS the state dict of EfficientNet-Lite0; the
exported model lies in OUT.
Prints JSON: seconds of fitting, or the AUROC of the exported model's scores and the pictures a second of anomalib's own
OpenVINO inferencer. Imports nothing of ours.

EfficientAD brings its own networks and cannot be fitted here, for it loads a teacher's weights and pictures of ImageNet
from the net. It is exported as it begins, with random weights, which its speed does not depend on; it has no AUROC.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from anomalib.data import Folder
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, EfficientAd, Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

BACKBONE = "tf_efficientnet_lite0"
LAYERS = {"padim": ["blocks.1", "blocks.2", "blocks.4"], "patchcore": ["blocks.2", "blocks.4"]}
AXES = 100  # of PaDiM, its default for a ResNet-18
MEMBERS = 2_000  # of PatchCore's coreset; its default of a tenth takes hours on two cores
_FINEST = 8  # pixels along a side of a place in PatchCore's finest layer
_SEED = 0
_FEW = 32  # pictures, where there is no AUROC and each takes long


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "fit":
        name, side, *paths = arguments
        found = fit(name, int(side), *paths)
    else:
        found = score(*(Path(one) for one in arguments))
    print(json.dumps(found))


def fit(name: str, side: int, folder: str, weights: str, out: str) -> dict[str, float]:
    """Fit the model to the good training pictures, as frames of `side` px, and export it for OpenVINO below `out`."""
    torch.manual_seed(_SEED)
    if name == "efficientad":
        bare = EfficientAd(pre_processor=_pre_processor(side), post_processor=False, evaluator=False, visualizer=False)
        export(Engine(accelerator="cpu", logger=False), bare, out, side)
        return {"fit_s": float("nan")}
    root = Path(folder)
    model = make(name, side, len(list((root / "train" / "good").iterdir())))
    load(model, Path(weights))
    data = Folder(
        name="set",
        root=root,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{path.name}" for path in (root / "test").iterdir() if path.name != "good"],
        train_batch_size=16,
        eval_batch_size=16,
        num_workers=0,
        val_split_mode="same_as_test",
    )
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(default_root_dir=scratch, accelerator="cpu", logger=False, enable_progress_bar=False)
        engine.fit(model, datamodule=data)
        fit_s = time.perf_counter() - started_s
        export(engine, model, out, side)
    return {"fit_s": fit_s}


def export(engine: Engine, model: AnomalibModule, out: str, side: int) -> None:
    single = {"dynamic_axes": None, "dynamic_shapes": None}  # else PatchCore's graph takes two frames, no more or less
    engine.export(model, ExportType.OPENVINO, export_root=out, input_size=(side, side), onnx_kwargs=single)


def score(out: Path, folder: Path) -> dict[str, float]:
    """Score the test pictures one by one; the time is from a picture's file to its score."""
    inferencer = OpenVINOInferencer(next(out.rglob("*.xml")), device="CPU")
    pictures = sorted(path for path in (folder / "test").glob("*/*") if path.is_file())
    if out.name == "efficientad":
        pictures = pictures[:: max(1, len(pictures) // _FEW)]
    side = int(inferencer.input_blob.shape[-1])
    for path in pictures[:5]:
        inferencer.predict(read(path, side))
    scores: dict[bool, list[float]] = {True: [], False: []}
    started_s = time.perf_counter()
    for path in pictures:
        found = inferencer.predict(read(path, side)).pred_score
        scores[path.parent.name == "good"].append(float(np.asarray(found).ravel()[0]))
    seconds = time.perf_counter() - started_s
    return {"auroc": auroc(scores[True], scores[False]), "pictures_per_s": len(pictures) / seconds}


def make(name: str, side: int, pictures: int) -> Padim | Patchcore:
    """The model on the same backbone, without what only rescales scores: the pixels as its weights expect them."""
    common = {
        "backbone": BACKBONE,
        "layers": LAYERS[name],
        "pre_trained": False,
        "pre_processor": _pre_processor(side),
        "post_processor": False,
        "evaluator": False,
        "visualizer": False,
    }
    if name == "padim":
        return Padim(n_features=AXES, **common)
    return Patchcore(coreset_sampling_ratio=min(1, MEMBERS / (pictures * (side // _FINEST) ** 2)), **common)


def _pre_processor(side: int) -> PreProcessor:
    constants = Normalize([127 / 255] * 3, [128 / 255] * 3)
    return PreProcessor(transform=Compose([Resize((side, side), antialias=True), constants]))


def load(model: Padim | Patchcore, weights: Path) -> None:
    """Fill the backbone, which is cut: the file's tensors come in the same order as timm's, and more of them."""
    network = model.model.feature_extractor.feature_extractor
    given = [
        tensor
        for name, tensor in torch.load(weights, map_location="cpu", weights_only=True).items()
        if not name.endswith("num_batches_tracked")
    ]
    own = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    state = dict(zip(own, given, strict=False))
    assert all(network.state_dict()[name].shape == tensor.shape for name, tensor in state.items())
    network.load_state_dict(state, strict=False)


def read(path: Path, side: int) -> np.ndarray:
    """What the inferencer wants, which resizes nothing: (side, side, 3) from 0 to 1.

    Resized as bytes: among fractions a rounded 1.0000001 makes the inferencer divide the picture by 255 once more.
    """
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def auroc(good: list[float], bad: list[float]) -> float:
    wins = sum((b > g) + 0.5 * (b == g) for g in good for b in bad)
    return wins / (len(good) * len(bad))


if __name__ == "__main__":
    main()
