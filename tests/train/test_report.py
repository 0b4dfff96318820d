"""The report is self-contained, states the scored figures, and shows the clips that it names."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import Outcome
from visolo_core.categories import LabelSet, unnamed
from visolo_core.errors import VisoloError
from visolo_core.masks import Rle, encode_rle
from visolo_runtime.sinks.drawing import track_colour
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video, read_annotations
from visolo_train.data.annotations import read_results as read_result_file
from visolo_train.data.synthetic_data import write_synthetic_data
from visolo_train.evaluation.report import Report, page
from visolo_train.evaluation.report_charts import Curve, precision_recall
from visolo_train.evaluation.report_clips import draw_results, rank_clips
from visolo_train.evaluation.scoring import MEASURES, score_tracks

Visolo = Callable[..., Outcome]
HEIGHT, WIDTH = 40, 60
PAGE_BYTES = 3_000_000


def block(left: int, width: int = 10) -> Rle:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, left : left + width] = True
    return encode_rle(mask)


def video(number: int, frames: int = 2) -> Video:
    return Video(number, HEIGHT, WIDTH, tuple(f"clip{number}/{at}.png" for at in range(frames)))


def track(
    number: int, masks: Sequence[Rle | None], category: int = 1, score: float = 0.9
) -> AnnotatedTrack:
    return AnnotatedTrack(number, category, tuple(masks), score)


def report_of(
    data_set: Annotations, tracks: Sequence[AnnotatedTrack], images: Path | None = None
) -> Report:
    score = score_tracks(data_set, tracks)
    return Report("model", "data", {}, data_set, tracks, 0.3, score, images=images)


class Page(HTMLParser):
    """What a page refers to and shows; closing tags must match."""

    VOID = frozenset({"meta", "img", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "td":
            self.cells.append("")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "td":
            self.cells[-1] += data


# ---------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "few-shapes"
    write_synthetic_data(folder, videos=5, seed=1, frames=3, size=(96, 168))
    return folder


def test_a_model_gets_a_self_contained_page(
    lite_bundle: Path, drawn: Path, tmp_path: Path, visolo: Visolo
) -> None:
    call = "eval", lite_bundle, "--data", drawn / "instances.json", "--track-score", 0
    out = tmp_path / "report.html"
    scores = visolo(*call, "--html", out, "--identity", "--json").succeeded().json()
    assert list(scores) == [*MEASURES, "per_category", "identity"]
    text = out.read_text(encoding="utf-8")
    parsed = Page(text)
    assert "lite.visolo on few-shapes" in text
    assert len(parsed.references) == 5 * 3  # every clip is among the three worst or the best
    assert all(each.startswith("data:image/jpeg;base64,") for each in parsed.references)
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    figures = dict(zip(parsed.cells[::3], parsed.cells[1::3], strict=False))
    expected = {name: scores[name] for name in MEASURES} | scores["identity"]
    for name in (*MEASURES, "HOTA", "DetA", "AssA", "IDF1", "IDP", "IDR"):
        percent = "-" if expected[name] < 0 else f"{100 * expected[name]:.1f}"
        assert figures[name] == percent, name
    again = tmp_path / "again.html"
    visolo(*call, "--html", again, "--identity").succeeded()
    assert again.read_bytes() == out.read_bytes()


def test_a_results_file_gets_one_without_pictures_unless_it_has_frames(
    drawn: Path, tmp_path: Path, visolo: Visolo
) -> None:
    truth = drawn / "instances.json"
    results = tmp_path / "results.json"
    perfect = [{**each, "score": 0.5} for each in json.loads(truth.read_text())["annotations"]]
    results.write_text(json.dumps(perfect))
    out = tmp_path / "report.html"
    visolo("score", truth, results, "--html", out).succeeded()
    text = out.read_text(encoding="utf-8")
    assert "img" not in Page(text).tags
    assert "HOTA" not in text
    visolo("score", truth, results, "--html", out, "--images", drawn / "JPEGImages").succeeded()
    assert Page(out.read_text(encoding="utf-8")).tags.count("img") == 5 * 3
    visolo("score", truth, results, "--html", out, "--images", drawn / "none").refused("none")


def test_a_page_that_cannot_be_written_is_refused_before_the_model_runs(
    lite_bundle: Path, drawn: Path, tmp_path: Path, visolo: Visolo
) -> None:
    results = tmp_path / "results.json"
    call = "eval", lite_bundle, "--data", drawn / "instances.json", "--results", results
    visolo(*call, "--html", tmp_path / "nowhere" / "report.html").refused("nowhere")
    assert list(tmp_path.iterdir()) == []


def test_what_comes_from_files_is_escaped(tmp_path: Path, visolo: Visolo) -> None:
    evil = '<script>alert("1")</script>&'
    document = {
        "videos": [
            {"id": 1, "height": HEIGHT, "width": WIDTH, "file_names": [f"{evil[:8]}/<i>.png"]}
        ],
        "categories": [{"id": 5, "name": evil}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 5, "segmentations": [block(0)]}],
    }
    truth, results = tmp_path / "<u>truth.json", tmp_path / "<b>results.json"
    truth.write_text(json.dumps(document))
    results.write_text(json.dumps([{**document["annotations"][0], "score": 0.9}]))
    out = tmp_path / "report.html"
    visolo("score", truth, results, "--html", out, "--images", tmp_path).succeeded()
    text = out.read_text(encoding="utf-8")
    assert not {"script", "u", "i"} & set(Page(text).tags)
    assert "<b>results" not in text
    assert evil in Page(text).cells


# ------------------------------------------------------------------------------ curves


def test_curves_are_those_of_the_figures(evaluator_folder: Path) -> None:
    truth = read_annotations(evaluator_folder / "gt.json")
    score = score_tracks(truth, read_result_file(evaluator_folder / "results.json", truth))
    for iou, name in ((0.5, "AP50"), (0.75, "AP75")):
        curve = score.curves.curve(iou)
        assert curve is not None
        assert curve.shape == (101,)
        assert curve.mean() == pytest.approx(score.figures[name])
        assert (np.diff(curve) <= 1e-12).all()
    for category, ap in score.per_category.items():
        each = [score.curves.ap(0.5 + 0.05 * step, category) for step in range(10)]
        assert np.mean(each) == pytest.approx(ap)
        assert (score.curves.curve(0.5, category) is None) == (ap < 0)


def test_a_curve_is_drawn_where_its_numbers_are() -> None:
    heights = np.concatenate([np.ones(51), np.full(50, 0.5)])
    svg = precision_recall([Curve("iou50", heights)], "a & b")
    match = re.search(r'class="line iou50" d="M([^"]*)"', svg)
    assert match
    points = [tuple(map(float, point.split())) for point in match[1].split("L")]
    # Axes from (46, 260) to (430, 10); level stretches are left out.
    assert points == [(46, 10), (238, 10), (241.8, 135), (430, 135)]
    assert 'aria-label="a &amp; b"' in svg


def test_few_categories_have_a_chart_of_their_own_when_there_are_many() -> None:
    count = 130
    data_set = Annotations(
        unnamed(count),
        (video(1),),
        tuple(track(1, [block(at % 40)] * 2, category=at + 1) for at in range(count)),
    )
    text = page(report_of(data_set, data_set.tracks))
    assert Page(text).tags.count("figure") == 1 + 100
    assert "the 100 commonest" in text
    assert len(text.encode()) < PAGE_BYTES


# -------------------------------------------------------------------------------- clips


def test_the_quality_of_clips_by_hand() -> None:
    both = [block(0), block(0)]
    crowd = replace(track(4, both), crowd=True)
    data_set = Annotations(
        unnamed(2),
        tuple(video(number) for number in range(1, 6)),
        (
            track(1, both), track(1, [block(40)] * 2),
            track(2, both),
            track(3, both),
            crowd,
        ),
    )  # fmt: skip
    tracks = [
        track(1, both), track(1, [block(20)] * 2),  # one hit and one false alarm
        track(2, both, category=2),
        track(3, [block(0), None]), track(3, [None, block(0)]),  # a switch half-way
        track(4, both),
    ]  # fmt: skip
    ranked = rank_clips(data_set, tracks)
    assert [(clip.video.video_id, clip.objects, clip.quality) for clip in ranked] == [
        (2, 1, 0), (1, 2, 0.5), (3, 1, 0.5),
    ]  # fmt: skip


def test_a_data_set_without_objects(tmp_path: Path) -> None:
    data_set = Annotations(unnamed(1), (video(1),), ())
    text = page(report_of(data_set, [], tmp_path))
    assert "has no object" in text
    assert "No clip" in text
    Page(text)


def test_doubtful_tracks_are_neither_judged_nor_drawn() -> None:
    data_set = Annotations(unnamed(1), (video(1),), (track(1, [block(0)] * 2),))
    guess = track(1, [block(0)] * 2, score=0.29)
    doubtful = page(report_of(data_set, [guess]))
    assert doubtful != page(report_of(data_set, [replace(guess, score=0.3)]))


def grey_frames(folder: Path, names: Sequence[str], size: tuple[int, int]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size[1], size[0]), (128, 128, 128)).save(folder / name)


def test_only_the_frames_that_are_drawn_are_read(tmp_path: Path) -> None:
    """Four, spread over those with an object; the folder has no other."""
    clip = video(1, frames=12)
    truth = track(1, [block(5) if frame >= 2 else None for frame in range(12)])
    grey_frames(tmp_path, [clip.file_names[frame] for frame in (2, 5, 8, 11)], (HEIGHT, WIDTH))
    drawn = draw_results(clip, [truth], [], unnamed(1), tmp_path)
    assert [each.frame for each in drawn] == [2, 5, 8, 11]
    assert [each.unreadable for each in drawn] == [""] * 4


def test_tracks_are_coloured_and_the_truth_is_outlined(tmp_path: Path) -> None:
    """In a clip of four times a picture's size, so everything is drawn at half the scale."""
    height, width = 480, 720
    mask = np.zeros((height, width), bool)
    mask[100:300, 100:300] = True
    guess = np.roll(mask, 300, axis=1)
    clip = Video(1, height, width, ("clip/0.png",))
    grey_frames(tmp_path, clip.file_names, (height, width))
    (drawn,) = draw_results(
        clip, [track(1, [encode_rle(mask)])], [track(1, [encode_rle(guess)])], unnamed(1), tmp_path
    )
    picture = np.asarray(Image.open(io.BytesIO(drawn.jpeg)).convert("RGB"), int)
    assert picture.shape == (240, 360, 3)
    inside_truth, inside_guess, nowhere = picture[70, 70], picture[60, 220], picture[220, 20]
    assert np.abs(inside_truth - 128).max() < 8
    assert np.abs(nowhere - 128).max() < 8
    tint = 0.55 * 128 + 0.45 * np.array(track_colour(1))
    assert np.abs(inside_guess - tint).max() < 20  # JPEG halves the colours' resolution
    edge = picture[100, 45:55].mean(axis=1)
    assert edge.argmin() + 1 == edge.argmax() == 5  # black outside, white inside
    assert edge.max() - edge.min() > 120


def test_an_unreadable_frame_is_grey_and_says_why(tmp_path: Path) -> None:
    clip = video(1)
    truth = track(1, [block(5)] * 2)
    grey_frames(tmp_path, clip.file_names[:1], (HEIGHT, WIDTH))
    (tmp_path / clip.file_names[1]).write_bytes(b"no picture")
    data_set = Annotations(unnamed(1), (clip,), (truth,))
    readable, broken = draw_results(clip, [truth], [], data_set.labels, tmp_path)
    assert not readable.unreadable
    assert "1.png" in broken.unreadable
    assert "frame 1 1.png" in page(report_of(data_set, [], tmp_path))


def test_a_frame_outside_the_folder_is_refused(tmp_path: Path) -> None:
    clip = Video(1, HEIGHT, WIDTH, ("../secret.png",))
    with pytest.raises(VisoloError, match="leads out"):
        draw_results(clip, [track(1, [block(0)])], [], unnamed(1), tmp_path)


def test_the_page_stays_small_even_for_large_frames_of_noise(tmp_path: Path) -> None:
    """Noise is what JPEG compresses least."""
    generator = np.random.default_rng(0)
    mask = np.zeros((480, 720), bool)
    mask[50:300, 50:300] = True
    clips = tuple(
        Video(number, 480, 720, tuple(f"{number}/{at}.bmp" for at in range(4)))
        for number in range(1, 7)
    )
    for clip in clips:
        (tmp_path / str(clip.video_id)).mkdir()
        for name in clip.file_names:
            # Blocks of two pixels survive being halved.
            noise = generator.integers(0, 256, (240, 360, 3), np.uint8).repeat(2, 0).repeat(2, 1)
            Image.fromarray(noise).save(tmp_path / name)
    tracks = tuple(track(clip.video_id, [encode_rle(mask)] * 4) for clip in clips)
    labels = LabelSet("one", (1,), ("thing",))
    text = page(report_of(Annotations(labels, clips, tracks), tracks, tmp_path))
    assert Page(text).tags.count("img") == 24
    assert len(text.encode()) < PAGE_BYTES
