"""A page about results: figures, curves and pictures in one self-contained html file.

The same input gives the same page, byte for byte: it contains no date and no speed. Text from
files is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from visolo_core.files import replaced
from visolo_train.data.annotations import AnnotatedTrack, Annotations
from visolo_train.evaluation.report_charts import (
    Curve,
    bars,
    precision_recall,
    small_precision_recall,
)
from visolo_train.evaluation.report_clips import ClipQuality, draw_results, rank_clips
from visolo_train.evaluation.report_parts import percent, section, table
from visolo_train.evaluation.scoring import Score

if TYPE_CHECKING:
    from visolo_train.evaluation.identity import Identity

_CLIPS_SHOWN = 3  # of the lowest scores, and of the highest
_CURVES_SHOWN = 100  # categories with a chart of their own
_CURVES = {"iou50": 0.5, "iou75": 0.75}
_MEANINGS = {
    "AP": "average precision, mean over IoU .50 to .95",
    "AP50": "at IoU .50",
    "AP75": "at IoU .75",
    "APs": "of objects below 128² pixels",
    "APm": "of objects of 128² to 256² pixels",
    "APl": "of objects above 256² pixels",
    "AR1": "average recall with one track a video",
    "AR10": "with ten tracks",
    "AR100": "with a hundred tracks",
    "ARs": "of objects below 128² pixels",
    "ARm": "of objects of 128² to 256² pixels",
    "ARl": "of objects above 256² pixels",
    "HOTA": "detection and association in balance",
    "DetA": "hits over hits, misses and false alarms",
    "AssA": "agreement of object and track over all their frames",
    "IDF1": "masks under the right identity, precision and recall in balance",
    "IDP": "share of the tracks' masks",
    "IDR": "share of the objects' masks",
}


@dataclass(frozen=True)
class Report:
    """The contents of a page."""

    subject: str
    """Name of the model or of the results."""
    data: str
    """Name of the data set."""
    settings: dict[str, str]
    """How the results were produced."""
    annotations: Annotations
    tracks: Sequence[AnnotatedTrack]
    track_score: float
    """Clips are judged and drawn with the tracks of at least this score."""
    score: Score
    identity: Identity | None = None
    images: Path | None = None
    """Folder of the frames; None leaves the pictures out."""


def write_report(path: Path, report: Report) -> None:
    """Write the page.

    Raises:
        VisoloError: if it cannot be written, or a frame's name leads outside the folder of frames.
    """
    text = page(report)
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(report: Report) -> str:
    """The page as html."""
    title = f"{escape(report.subject)} on {escape(report.data)}"
    style = files("visolo_train.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            f"<header><h1>{title}</h1>{_counts(report)}{_cards(report)}</header>",
            _figures(report),
            _curves(report),
            _clips(report),
            _categories(report),
            _settings(report),
            "</body>\n</html>\n",
        ]
    )


def _counts(report: Report) -> str:
    of = report.annotations
    objects = sum(not track.crowd for track in of.tracks)
    return (
        f"<p>Videos {len(of.videos)}, objects {objects}, categories {len(of.labels)}, "
        f"tracks found {len(report.tracks)}</p>"
    )


def _cards(report: Report) -> str:
    shown = {name: report.score.figures[name] for name in ("AP", "AP50", "AP75", "AR10")}
    if report.identity:
        figures = report.identity.figures()
        shown |= {name: figures[name] for name in ("HOTA", "IDF1")}
    cards = (
        f"<div><dt>{name}</dt><dd>{percent(value)}</dd></div>" for name, value in shown.items()
    )
    return f'<dl class="cards">{"".join(cards)}</dl>'


def _figures(report: Report) -> str:
    tables = [f"<div><p>In percent.</p>{_figure_table(report.score.figures)}</div>"]
    if report.identity:
        note = (
            f"Identity of the tracks with a score of {report.identity.score_threshold:g} or more, "
            "summed over all frames and categories."
        )
        tables.append(f"<div><p>{note}</p>{_figure_table(report.identity.figures())}</div>")
    return section("Figures", f'<div class="pair">{"".join(tables)}</div>')


def _figure_table(figures: dict[str, float]) -> str:
    rows = ([name, percent(value), _MEANINGS[name]] for name, value in figures.items())
    return table(["figure", "%", "what it is"], rows)


def _curves(report: Report) -> str:
    curves = _curves_of(report)
    if not curves:
        return section("Precision and recall", "<p>The data set has no object.</p>")
    legend = "".join(
        f'<li class="{kind}">IoU {iou:.2f}, AP {percent(report.score.figures[name])}</li>'
        for (kind, iou), name in zip(_CURVES.items(), ("AP50", "AP75"), strict=True)
    )
    names = _names(report)
    counts = _objects_by_category(report)
    each = [
        f"<figure>{small_precision_recall(_curves_of(report, category), names[category])}"
        f"<figcaption>{escape(names[category])} "
        f"<b>{percent(report.score.curves.ap(0.5, category))}</b></figcaption></figure>"
        for category, _ in counts.most_common(_CURVES_SHOWN)
    ]
    of = "each category" if len(counts) <= _CURVES_SHOWN else f"the {_CURVES_SHOWN} commonest"
    return section(
        "Precision and recall",
        '<figure class="large">'
        + precision_recall(curves, "precision over recall, mean over the categories")
        + f'<figcaption>Mean over the categories<ul class="legend">{legend}</ul></figcaption>'
        "</figure>",
        f"<h3>Of {of}, with AP50; most objects first</h3>",
        f'<div class="many">{"".join(each)}</div>',
    )


def _curves_of(report: Report, category: int | None = None) -> list[Curve]:
    curves = ((kind, report.score.curves.curve(iou, category)) for kind, iou in _CURVES.items())
    return [Curve(kind, heights) for kind, heights in curves if heights is not None]


def _categories(report: Report) -> str:
    names, counts = _names(report), _objects_by_category(report)
    scored = [(category, ap) for category, ap in report.score.per_category.items() if ap >= 0]
    scored.sort(key=lambda each: (-each[1], each[0]))
    rows = (
        [
            escape(names[category]),
            str(counts[category]),
            f'{percent(ap)}<meter value="{ap:.3f}"></meter>',
            percent(report.score.curves.ap(0.5, category)),
        ]
        for category, ap in scored
    )
    without = len(names) - len(scored)
    note = f"<p>{without} categories without an object are left out.</p>" if without else ""
    return section("Categories", table(["category", "objects", "AP", "AP50"], rows), note)


def _clips(report: Report) -> str:
    kept = [track for track in report.tracks if track.score >= report.track_score]
    ranked = rank_clips(report.annotations, kept)
    if not ranked:
        return section("Clips", "<p>No clip has an annotated object.</p>")
    explained = (
        "<p>The track quality of a clip is the mean over its objects of the IoU, over all frames, "
        "with the best track of the same category; an object without a track counts 0, and false "
        f"alarms do not lower it. Tracks with a score of {report.track_score:g} or more.</p>"
    )
    parts = [explained, bars([clip.quality for clip in ranked], "track quality, worst clip first")]
    if report.images:
        best = ranked[_CLIPS_SHOWN:][-_CLIPS_SHOWN:][::-1]
        parts += [
            "<p>Pictures: tracks in colour, the truth in white outlines.</p>",
            *_strips("Worst", ranked[:_CLIPS_SHOWN], kept, report.annotations, report.images),
            *_strips("Best", best, kept, report.annotations, report.images),
        ]
    return section("Clips", *parts)


def _strips(
    heading: str,
    clips: list[ClipQuality],
    tracks: Sequence[AnnotatedTrack],
    annotations: Annotations,
    images: Path,
) -> Iterable[str]:
    if clips:
        yield f"<h3>{heading}</h3>"
    for clip in clips:
        video = clip.video
        truth, results = (
            [track for track in some if track.video_id == video.video_id]
            for some in (annotations.tracks, tracks)
        )
        objects = [track for track in truth if not track.crowd]
        pictures = "".join(
            f'<figure><img src="{drawn.data_uri}" alt="frame {drawn.frame}" loading="lazy">'
            f"<figcaption>frame {drawn.frame} {escape(drawn.unreadable)}</figcaption></figure>"
            for drawn in draw_results(video, objects, results, annotations.labels, images)
        )
        first = Path(video.file_names[0])
        name = first.parent.as_posix() if first.parent.name else first.stem
        facts = f"video {video.video_id}, objects {clip.objects}, tracks {len(results)}, quality"
        yield (
            f"<h4>{escape(name)} <span>{facts} {percent(clip.quality)}</span></h4>"
            f'<div class="strip">{pictures}</div>'
        )


def _settings(report: Report) -> str:
    settings = report.settings | {"track score": f"{report.track_score:g}"}
    rows = ([escape(name), escape(value)] for name, value in settings.items())
    return section("Settings", table(["setting", "value"], rows))


def _names(report: Report) -> dict[int, str]:
    labels = report.annotations.labels
    return dict(zip(labels.ids, labels.names, strict=True))


def _objects_by_category(report: Report) -> Counter[int]:
    return Counter(track.category_id for track in report.annotations.tracks if not track.crowd)
