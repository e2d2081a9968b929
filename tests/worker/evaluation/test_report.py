from __future__ import annotations

import base64
import errno
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser

from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.evaluation.choice import Choice
from quarterturn.worker.evaluation.figures import Inspected, Unreadable
from quarterturn.worker.evaluation.probe.findings import Finding, Strength
from quarterturn.worker.evaluation.report import histogram, render, roc_points, write_report
from quarterturn.worker.evaluation.result import Evaluation, Localisation, Swapped
from tests.parts import good_part, png
from tests.worker.pages.reading import Page


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """40 good parts, of which three are rejected, and 20 bad ones, of which fourteen are overlooked."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    inspected = []
    for defect, count, low, high in (("good", 40, 0.3, 1.05), ("<scratch>", 20, 0.5, 1.2)):
        for number, score in enumerate(np.linspace(low, high, count)):
            path = folder / f"{defect[:2]}{number}.png"
            path.write_bytes(png(np.kron(good_part(rng), np.ones((40, 30, 1), np.uint8))))
            inspected.append(Inspected(path, "ring", defect, score * 7, 7.0, "defect" if score > 1 else None, "ring"))
    promises = {"ring": Promise.of(120, 0.01)}
    return Evaluation("e" * 64, "numpy", "b" * 64, 0.01, promises, inspected, [], None)


def test_the_page_says_what_was_measured(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
    for text in (
        "40 good and 20 bad parts",
        "3 of 40 good parts rejected; asked for 1% on average",
        "14 of 20 bad parts passed",
        "The worst 12 of 14.",
        "e" * 64,
        "b" * 64,
        f"ring: {Promise.of(120, 0.01).sentence}",
        "1.6\u2060–\u206020.4% with 95% confidence",  # of 3 of 40
        "7.5% 1.6\u2060–\u206020.4%",  # in the table
        f"ring · {evaluation.inspected[0].path.parent.name}/<s19.png",  # the product beside the file
    ):
        assert text in page.text, text
    assert evaluation.total.auroc is not None
    assert f"{evaluation.total.auroc:.3f}" in page.text


def test_the_worst_mistakes_come_first_with_their_picture(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
    factors = [float(found) for found in re.findall(r"([\d.]+) × threshold", page.text)]
    overlooked, rejected, found = factors[:12], factors[12:15], factors[15:]
    assert overlooked == sorted(overlooked)
    assert overlooked[0] == 0.5
    assert rejected == sorted(rejected, reverse=True)
    assert rejected[0] == 1.05
    assert found == sorted(found, reverse=True)
    assert (len(found), found[0]) == (6, 1.2)
    assert "None: " not in page.text
    for image in page.all("img"):
        assert pixels_of(image).shape == (320, 240, 3)  # 640x480, halved
        assert (image["height"], image["width"]) == ("320", "240")
        assert image["alt"] in ("ring, labelled <scratch>", "ring, labelled good")


def pixels_of(image: dict[str, str | None]) -> np.ndarray:
    source = str(image["src"]).removeprefix("data:image/jpeg;base64,")
    bgr = cv2.imdecode(np.frombuffer(base64.b64decode(source), np.uint8), cv2.IMREAD_COLOR)
    return bgr[..., ::-1].astype(int)


def test_pictures_stand_beside_themselves_under_their_heat_map(evaluation: Evaluation) -> None:
    heat = np.zeros((4, 3), np.float32)
    heat[1, 2] = 4
    page = Page(render(replace(evaluation, inspected=[replace(one, heat=heat) for one in evaluation.inspected])))
    plain, heated = page.all("img")[::2], page.all("img")[1::2]
    assert len(plain) == len(heated) == 12 + 3 + 6
    assert {image["alt"] for image in heated} == {"the same under its heat map"}
    for before, after in zip(plain, heated, strict=True):
        change = pixels_of(after) - pixels_of(before)
        assert change.shape == (320, 240, 3)
        assert change[100:140, 180:220].mean(axis=(0, 1))[1:].max() < -30  # where it is hot: less green and blue
        assert abs(change[200:]).mean() < 1
        assert abs(change[:, :100]).mean() < 1
    assert "beside each picture" in page.text.lower()
    assert "beside each picture" not in Page(render(evaluation)).text.lower()


@pytest.mark.parametrize("region", [None, Region(x=240, y=480, width=720, height=800)])
def test_the_mask_is_outlined_beside_an_overlooked_defect(
    evaluation: Evaluation, tmp_path: Path, region: Region | None
) -> None:
    """Of two files, as MVTec LOCO has them; the plain picture beside it stays as it was."""
    defects, masks = [((640, 800), (480, 600)), ((1000, 1003), (600, 800))], []  # one is a hair
    for number, (rows, columns) in enumerate(defects):
        mask = np.zeros((1280, 960), np.uint8)
        mask[slice(*rows), slice(*columns)] = 255
        masks.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(masks[-1]), mask)
    overlooked = next(one for one in evaluation.inspected if not one.is_good)
    page = Page(render(replace(evaluation, inspected=[replace(overlooked, masks=masks)], region=region)))
    plain, marked = page.all("img")
    assert marked["alt"] == "the same with the mask’s outline"
    assert "the mask’s outline: where the defect was drawn by hand" in page.text
    scale, x, y = (0.25, 0, 0) if region is None else (0.4, 240, 480)
    before, after = pixels_of(plain), pixels_of(marked)
    changed = np.abs(after - before).sum(axis=2) > 150
    for rows, columns in defects:
        top, bottom = (int((value - y) * scale) for value in rows)
        left, right = (int((value - x) * scale) for value in columns)
        assert not changed[top + 2 : bottom - 2, left + 2 : right - 2].any()
        assert changed[top - 12 : top, left:right].any(axis=0).all()
        assert changed[bottom + 1 : bottom + 13, left:right].any(axis=0).all()
        changed[top - 16 : bottom + 16, left - 16 : right + 16] = False
    assert not changed.any()
    assert "outline" not in Page(render(evaluation)).text


def test_overkill_and_escape_are_there_to_choose_by(evaluation: Evaluation) -> None:
    promise = Promise.of(120, 0.02)
    offered = [
        Choice(0.001, None, 879, None, None, None, None),
        Choice(0.01, promise, 0, 0.075, (0.016, 0.204), 0.7, (0.457, 0.881)),
    ]
    told = Page(render(replace(evaluation, choices=offered))).text
    assert (
        "0.1% cannot be promised: 879 calibration pictures too few; a ‘calibration’ folder of 1331 has enough" in told
    )
    row = "1% in service at most 1.66% at most 3.90% 7.5% 1.6\u2060–\u206020.4% 70.0% 45.7\u2060–\u206088.1%"
    assert row in told
    assert "Which overkill to ask for" not in Page(render(evaluation)).text


def test_what_was_run_and_wrong_masks_are_told(evaluation: Evaluation) -> None:
    ran = {"precision": "float16", "pictures from": "/data/<ring>"}
    told = Page(render(replace(evaluation, ran=ran, mask_faults=["masks that are all black (1): a.png"]))).text
    assert "Precision float16 Pictures from /data/<ring>" in told
    assert "Masks that do not count masks that are all black (1): a.png" in told


def test_a_broken_promise_is_marked(evaluation: Evaluation) -> None:
    """Three of 40 are too many for 1%, from 120 scores, and not too many for 5%."""
    page = Page(render(evaluation))
    assert "ring: 3 of 40 good parts were rejected; with a promise of 1% on average, no more than 2 are" in page.text
    assert page.all("li")[0]["class"] == "serious"
    page = Page(render(replace(evaluation, promises={"ring": Promise.of(120, 0.05)})))
    assert "ring: 3 of 40 good parts were rejected; with a promise of 5% on average, up to 5 are" in page.text
    assert "class" not in page.all("li")[0]


def test_only_the_region_that_was_looked_at_is_shown(evaluation: Evaluation) -> None:
    found = [replace(one, heat=np.zeros((2, 2), np.float32)) for one in evaluation.inspected]
    page = Page(render(replace(evaluation, inspected=found, region=Region(x=0, y=0, width=120, height=60))))
    assert {(image["width"], image["height"]) for image in page.all("img")} == {("120", "60")}


def test_where_the_defects_are_is_told(evaluation: Evaluation) -> None:
    found = [replace(one, heat=np.zeros((2, 2), np.float32)) for one in evaluation.inspected]
    told = Page(
        render(replace(evaluation, inspected=found, localisation=Localisation(20, 40, 0.9123, None, 0.75)))
    ).text
    assert "Peak in mask 75.0% of 20 bad pictures with masks" in told
    assert "Pixel AUROC 0.912" in told
    assert "AUPRO – share of a defect that is covered, over up to 30% false positives" in told


def test_names_cannot_break_the_page(evaluation: Evaluation) -> None:
    text = render(evaluation)
    assert "<scratch>" not in text
    assert "&lt;scratch&gt;" in text


def test_the_page_needs_nothing_but_itself(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
    assert not page.all("script") + page.all("link")
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    assert not re.search(r"url\(|@import|https?://", render(evaluation))


def test_the_page_is_accessible(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
    assert page.all("html") == [{"lang": "en"}]
    assert {name for name, _ in page.tags} >= {"main", "h1", "h2", "table", "th"}
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    assert all(section["aria-labelledby"] in identifiers for section in page.all("section"))
    assert len(page.all("meta")) == 2  # characters and the phone's width


def test_the_histogram_counts_every_part(evaluation: Evaluation) -> None:
    found = histogram(evaluation)
    assert found is not None
    assert max(max(bar.good, bar.bad) for bar in found.bars) == 1
    low, high = 0.3, 0.3 + (1 - 0.3) / found.threshold  # 1 stands at `threshold` of the width
    good = [one.ratio for one in evaluation.inspected if one.is_good]
    bad = [one.ratio for one in evaluation.inspected if not one.is_good]
    edges = np.linspace(low, high, len(found.bars) + 1)
    shares = [np.histogram(np.minimum(some, high), edges)[0] / len(some) for some in (good, bad)]
    assert found.highest == pytest.approx(max(share.max() for share in shares))  # one scale for both
    np.testing.assert_allclose([bar.good for bar in found.bars], shares[0] / found.highest, atol=1e-9)
    np.testing.assert_allclose([bar.bad for bar in found.bars], shares[1] / found.highest, atol=1e-9)
    for place, label in found.ticks:
        assert low + place * (high - low) == pytest.approx(float(label))
    assert found.shares
    for place, label in found.shares:
        assert 0 < place <= 1
        assert place * found.highest == pytest.approx(float(label.removesuffix("%")) / 100)


def test_one_far_score_does_not_squeeze_the_others(evaluation: Evaluation) -> None:
    far = replace(evaluation.inspected[-1], score=1e6)
    found = histogram(replace(evaluation, inspected=[*evaluation.inspected[:-1], far]))
    assert found is not None
    assert found.threshold > 0.5
    assert found.bars[-1].bad > 0


def test_the_curve_runs_from_corner_to_corner(evaluation: Evaluation) -> None:
    points = roc_points(evaluation)
    assert (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert points == sorted(points)


# Of each label in the plot: its text, the height of its middle, and whether it lies over a bar.
LABELS = """
() => {
  const boxes = [...document.querySelectorAll(".scores rect")].map((bar) => bar.getBoundingClientRect())
    .filter((box) => box.height > 0);
  return [...document.querySelectorAll(".scores span")].map((label) => {
    const { left, right, top, bottom } = label.getBoundingClientRect();
    const over = boxes.some((box) => box.left < right && left < box.right && box.top < bottom && top < box.bottom);
    return { text: label.textContent, y: (top + bottom) / 2, over, inside: left >= 0 && right <= innerWidth };
  });
}
"""
HEIGHTS = """
(kind) => [...document.querySelectorAll(`.scores rect.${kind}`)].map((bar) => bar.getBoundingClientRect())
  .map(({ top, bottom }) => [top, bottom])
"""


@pytest.mark.parametrize("width", [390, 800, 1100, 1440])
@pytest.mark.parametrize("kept", ["good", "bad", "both"])
def test_the_scale_of_the_histogram_is_true_and_beside_the_bars(
    evaluation: Evaluation, chromium: Browser, kept: str, width: int
) -> None:
    some = [one for one in evaluation.inspected if kept == "both" or one.is_good == (kept == "good")]
    page = chromium.new_page(viewport={"width": width, "height": 800})
    page.set_content(render(replace(evaluation, inspected=some)))
    labels = page.evaluate(LABELS)
    assert [one for one in labels if one["over"] or not one["inside"]] == []
    kinds = [one["text"].removesuffix(" parts") for one in labels if one["text"].endswith(" parts")]
    assert kinds == (["good", "bad"] if kept == "both" else [kept])
    found = histogram(replace(evaluation, inspected=some))
    assert found is not None
    (zero,) = [one["y"] for one in labels if one["text"] == "0%"]
    marks = [(abs(one["y"] - zero), one["text"]) for one in labels if one["text"].endswith("%")]
    for kind in kinds:
        heights = [abs(top - bottom) for top, bottom in page.evaluate(HEIGHTS, kind)]
        shares = [getattr(bar, kind) * found.highest for bar in found.bars]
        for away, text in marks:
            share = float(text.removesuffix("%")) / 100
            assert away == pytest.approx(share / max(shares) * max(heights), abs=1.5), "as high as a bar of it would be"
    page.close()


@pytest.mark.parametrize("width", [800, 1100, 1440])
def test_no_table_is_cut_on_a_tablet_and_a_desk(evaluation: Evaluation, chromium: Browser, width: int) -> None:
    defects = {"good": "good", "<scratch>": "missing_hole"}
    many = [
        replace(one, product=product, defect=defects[one.defect])
        for product in ("connector", "flange")
        for one in evaluation.inspected
        for _ in range(6)
    ]
    choices = [Choice(0.01, Promise.of(120, 0.02), 0, 0.175, (0.116, 0.204), 0.7, (0.457, 0.881))]
    page = chromium.new_page(viewport={"width": width, "height": 800})
    page.set_content(render(replace(evaluation, inspected=many, choices=choices)))
    assert page.locator("th", has_text="recall at 1%").count() == 1
    widths = page.locator(".wide").evaluate_all("(all) => all.map((one) => [one.scrollWidth, one.clientWidth])")
    page.close()
    assert len(widths) == 2
    assert all(scroll <= client for scroll, client in widths), widths


@pytest.mark.parametrize("kept", ["good", "bad", "none"])
def test_one_kind_of_part_or_none_is_reported_too(evaluation: Evaluation, kept: str) -> None:
    some = [one for one in evaluation.inspected if kept != "none" and one.is_good == (kept == "good")]
    page = Page(render(replace(evaluation, inspected=some)))
    assert ("There were no bad parts." in page.text) == (kept != "bad")
    assert ("There were no good parts." in page.text) == (kept != "good")
    assert len(page.all("svg")) == (kept != "none")  # no curve without both


def test_unreadable_pictures_and_wrong_products_are_told(evaluation: Evaluation) -> None:
    more = replace(evaluation, unreadable=[Unreadable(Path("a.png"), "is cut off")], swapped=Swapped(8, 0.75, 0.5))
    page = Page(render(more))
    assert "a.png : is cut off" in page.text
    assert "Of 8 good parts that were declared as another product, 75.0% raised an alert, and 50.0%" in page.text


def test_findings_of_the_probe_are_told(evaluation: Evaluation) -> None:
    findings = [Finding(Strength.STRONG, "<brightness> alone separates"), Finding(Strength.NONE, "no near-duplicate")]
    page = Page(render(evaluation, findings))
    assert "<brightness> alone separates no near-duplicate" in page.text
    assert [item.get("class") for item in page.all("li")][1:3] == ["serious", None]  # behind the promise
    assert "What these figures can say" not in Page(render(evaluation)).text


def test_no_mistake_is_said_so(evaluation: Evaluation) -> None:
    right = [one for one in evaluation.inspected if one.is_good == (one.alert is None)]
    page = Page(render(replace(evaluation, inspected=right)))
    assert "None: every bad part was rejected." in page.text
    assert "None: every good part passed." in page.text


def test_faults_are_one_sentence(evaluation: Evaluation, tmp_path: Path) -> None:
    gone = replace(evaluation.inspected[-3], path=tmp_path / "gone.png", alert=None)
    before = tmp_path / "report.html"
    before.write_text("the last one")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read any more"):
        write_report(replace(evaluation, inspected=[gone]), before)
    assert before.read_text() == "the last one"
    write_report(evaluation, before)
    assert before.read_text(encoding="utf-8").endswith("</html>")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html"}


def test_a_disk_that_fills_leaves_the_old_report(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text[:100].encode(encoding))
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "report.html").write_bytes(b"the last one")
    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        write_report(evaluation, tmp_path / "report.html")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the last one"]
