"""Verifies a bundle against its weights, or against any other form of the same network.

Each side is opened with its own backend, precision and device. Bundles need no PyTorch: it is
imported only if weights are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visolo_core.checkpoint_header import is_weights_file
from visolo_core.errors import VisoloError
from visolo_export.parity_record import check_recordable, record_parity
from visolo_export.verification import TOLERANCES, Frames, Verification, verify
from visolo_runtime.bundle import Bundle, Parity, file_entry
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.sample_clip import sample_frames
from visolo_train.data.annotations import read_annotations
from visolo_train.evaluation.scoring import score_model

if TYPE_CHECKING:  # it needs the exporter's packages
    from visolo_export.bisect import Divergence


@dataclass(frozen=True)
class Side:
    """One side of a verification: a model's file or folder, and how it is run."""

    path: Path
    backend: str = "auto"
    precision: str = ""
    device: str = ""


@dataclass(frozen=True)
class VerificationOptions:
    """What is run and compared."""

    source: str | None = None
    """A video, a folder of frames or a data set's JSON file; None generates a clip."""
    frames: int = 12
    """Largest number of frames to run."""
    data: Path | None = None
    """A data set in YouTube-VIS format on which AP is compared as well."""
    ap_tolerance: float = 0.01
    """Largest loss of AP on it, in 0 to 1."""
    bisect: bool = False
    """Look for the first layer of the ONNX frame graph that differs from the weights."""
    record: bool = False
    """Record the figures in the bundle's manifest."""
    threads: int = 0
    """Threads of the engines; 0 leaves the number to them."""


@dataclass(frozen=True)
class ApComparison:
    """AP of both sides on a data set, in 0 to 1."""

    data: str
    """name of its file"""
    reference: float
    candidate: float
    tolerance: float

    @property
    def failures(self) -> list[str]:
        """A sentence if more is lost than allowed."""
        lost = self.reference - self.candidate
        if lost <= self.tolerance:
            return []
        return [f"AP on {self.data}: {100 * lost:.1f} points are lost"]


@dataclass(frozen=True)
class Bisection:
    """Where the frame graph differs from a new export of the weights."""

    first: Divergence | None
    """the first layer that differs; None if none does"""


@dataclass(frozen=True)
class VerificationReport:
    """Everything that a verification measured."""

    verification: Verification
    source: str
    """name of the video that was run"""
    form: str
    """what was verified: engine and precision"""
    reference: str
    """the engine that it was compared with"""
    reference_sha256: str
    """of the weights that were the reference; empty if it was a bundle"""
    ap: ApComparison | None = None
    bisection: Bisection | None = None

    @property
    def failures(self) -> list[str]:
        """Everything over tolerance, one sentence each."""
        return self.verification.failures + (self.ap.failures if self.ap else [])

    @property
    def passed(self) -> bool:
        """Whether everything lies within tolerance."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """What ``visolo verify --json`` prints; ``ap`` and ``first_divergence`` only on request."""
        report = self.verification.as_dict()
        if self.ap:
            report["ap"] = {"reference": self.ap.reference, "candidate": self.ap.candidate}
        if self.bisection:
            first = self.bisection.first
            report["first_divergence"] = asdict(first) if first else None
        return report | {
            "source": self.source,
            "form": self.form,
            "reference": self.reference,
            "failures": self.failures,
            "passed": self.passed,
        }

    def parity(self) -> Parity:
        """The figures that a manifest keeps."""
        tracks = self.verification.tracks
        return Parity(
            reference=self.reference_sha256,
            form=self.form,
            source=self.source,
            frames=self.verification.frames,
            passed=self.passed,
            max_score_difference=tracks.max_score_difference,
            min_mask_iou=tracks.min_mask_iou,
            max_tensor_error={
                f"{graph}.{name}": error.as_dict()["absolute"]
                for graph, tensors in self.verification.tensors.items()
                for name, error in tensors.items()
            },
        )


def verify_bundle(
    candidate: Side,
    reference: Side,
    options: VerificationOptions,
    progress: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> VerificationReport:
    """Open both sides and compare them on a clip, and on a data set if one is named.

    Args:
        candidate: a bundle; or weights, run by PyTorch on another device than the reference.
        reference: weights, or any bundle of the same network.
        options: what is run and compared.
        progress: called with what is being run.
        warn: called with a sentence if the bundle was exported from other weights.

    Raises:
        VisoloError: if a side cannot be opened; if the two are different networks; if the source
            has no readable frame; if ``bisect`` is set and the reference is not a weights file; if
            the figures cannot be recorded; if ``bisect`` or ``record`` is set without a bundle.
    """
    bundle = None if is_weights_file(candidate.path) else Bundle(candidate.path)
    if bundle is None and (options.bisect or options.record):
        raise VisoloError(
            f"'{candidate.path}' holds weights: --bisect and --record are for bundles"
        )
    if options.bisect and reference.path.exists() and not is_weights_file(reference.path):
        raise VisoloError(
            f"'{reference.path}' is not a weights file: --bisect needs weights as the --reference"
        )
    if bundle and options.record:
        check_recordable(bundle, reference.path)
    frames, source = _read_frames(options.source, options.frames)
    model = load(
        candidate.path,
        candidate.backend,
        threads=options.threads,
        precision=candidate.precision,
        device=candidate.device,
    )
    reference_model = load(
        reference.path,
        reference.backend,
        lambda _: model.inference,
        options.threads,
        reference.precision,
        reference.device,
    )
    if model.config != reference_model.config:
        form = "bundle" if bundle else "weights"
        raise VisoloError(
            f"'{reference.path}' holds another network than the {form} '{candidate.path}': "
            "name weights or a bundle of the same network with --reference"
        )
    checksum = file_entry(reference.path).sha256 if reference.path.is_file() else ""
    if bundle and checksum and bundle.manifest.weights_sha256 not in (None, checksum):
        warn(f"'{bundle.folder}' was exported from other weights than '{reference.path}'")
    report = VerificationReport(
        verify(reference_model, model, frames, TOLERANCES[model.precision], progress),
        source,
        form=f"{model.engines.description}, {model.precision}",
        reference=reference_model.engines.description,
        reference_sha256=checksum,
        ap=(
            _compare_ap(reference_model, model, options.data, options.ap_tolerance)
            if options.data
            else None
        ),
        bisection=(
            _bisect(bundle, model, reference.path, frames) if bundle and options.bisect else None
        ),
    )
    if bundle and options.record:
        record_parity(bundle, report.parity())
    return report


def _read_frames(source: str | None, count: int) -> tuple[Frames, str]:
    """The first frames of a source, and its name."""
    if source is None:
        return list(sample_frames(count)), "generated clip"
    clip = open_source(source)[0]
    frames = list(islice(clip.pictures(), count))
    if not frames:
        raise VisoloError(f"'{source}' has no frame that can be read")
    return frames, clip.name


def _compare_ap(reference: Model, candidate: Model, data: Path, tolerance: float) -> ApComparison:
    annotations = read_annotations(data)
    ap, candidate_ap = (
        score_model(model, annotations, data).figures["AP"] for model in (reference, candidate)
    )
    return ApComparison(data.name, ap, candidate_ap, tolerance)


def _bisect(bundle: Bundle, candidate: Model, weights: Path, frames: Frames) -> Bisection:
    from visolo_export.bisect import divergence_from_weights
    from visolo_runtime.video.resizing import resize_frame

    image = resize_frame(frames[0], candidate.config.input_size)
    return Bisection(divergence_from_weights(weights, bundle, candidate.precision, image))
