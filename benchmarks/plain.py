"""A straightforward worker, to compare with: a frame at a time is decoded, turned on the host, and sent through ONNX
Runtime view by view; what good parts look like and the scores are ours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.embeddings import FRAME, Embeddings
from quarterturn.worker.contract.framing import WHOLE
from quarterturn.worker.contract.views import place_order
from quarterturn.worker.engine.base import open_folder
from quarterturn.worker.inspection.scorer import Scorer


class PlainWorker:
    """Scores picture files by `bank`, whose engine has V views, through an engine of the same model with one.

    Args:
        engine: the folder of the engine with one view, built for ONNX Runtime.
        bank: fitted through an engine of the same model with V views, of whole frames.
    """

    def __init__(self, engine: Path, bank: Bank) -> None:
        self._session = onnxruntime.InferenceSession(open_folder(engine, "onnxruntime").files[0])
        self._spec, self._scorer = bank.manifest.spec, Scorer(bank)

    def score(self, path: Path) -> float:
        """The score of one picture against the first product."""
        pixels = cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB)
        side = self._spec.side
        frame = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        (scored,) = self._scorer.score(self._embed(frame), [WHOLE])
        return float(scored.scores[0])

    def _embed(self, frame: npt.NDArray[np.uint8]) -> Embeddings:
        names, views = list(self._spec.outputs), self._spec.views
        turned = [np.ascontiguousarray(np.rot90(frame, view))[np.newaxis] for view in range(views)]
        found = [dict(zip(names, self._session.run(names, {"frames": one}), strict=True)) for one in turned]
        return {
            name: np.concatenate(
                [
                    one[name] if name == FRAME else _turned_back(one[name], views, view)
                    for view, one in enumerate(found)
                ],
                axis=1,
            )
            for name in names
        }


def _turned_back(values: npt.NDArray[np.float32], views: int, view: int) -> npt.NDArray[np.float32]:
    """(1, 1, P, ...) of one view, its places in the order of the unturned frame."""
    return values[:, :, place_order(views, values.shape[2])[view]]
