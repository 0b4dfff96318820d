"""Bulk runs, as far as they need no Ray: what the work is, what a worker does, what it leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import skips
from clips import data_set, write_folder, write_video
from helpers import Outcome
from visolo.commands.bulk import seconds_of
from visolo_core.errors import VisoloError
from visolo_runtime.bulk import segments
from visolo_runtime.bulk.cluster import check_address, share
from visolo_runtime.bulk.folder import BulkFolder
from visolo_runtime.bulk.inputs import videos_of, with_content
from visolo_runtime.bulk.keys import identify, with_key
from visolo_runtime.bulk.manifest import Row, read_manifest
from visolo_runtime.bulk.outputs import VideoOutputs
from visolo_runtime.bulk.plan import BulkSettings, BulkVideo, Job
from visolo_runtime.bulk.worker import REFUSED, UNWRITTEN, BulkWorker, row_in
from visolo_runtime.sources.clip import Clip

fsspec = pytest.importorskip("fsspec", reason=skips.NO_RAY)
pytest.importorskip("pyarrow", reason=skips.NO_RAY)

Visolo = Callable[..., Outcome]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four videos of different lengths."""
    folder = tmp_path_factory.mktemp("films")
    for number, frames in enumerate((7, 5, 9, 6)):
        write_video(folder / f"film{number}.mp4", frames)
    return folder


def job_for(model: Path, folder: Path, **changes: Any) -> Job:
    identity = identify(str(model))
    settings = BulkSettings(identity.inference, "onnxruntime", frames=True)
    job = Job("run", str(model), identity.hash, str(folder), settings, threads=1)
    return replace(job, **changes)


def planned(job: Job, *inputs: Path) -> list[BulkVideo]:
    videos = with_content(videos_of([str(each) for each in inputs]))
    return [with_key(video, job.model_hash, job.settings) for video in videos]


def work(job: Job, videos: list[BulkVideo], attempt: int = 1) -> list[Row | tuple[str, str]]:
    """What a worker answers to these videos, a batch for as many as it runs side by side."""
    worker, answers = BulkWorker(job.as_text(), attempt), list[str]()
    for begin in range(0, len(videos), job.per_worker):
        batch = videos[begin : begin + job.per_worker]
        answers += worker({"video": [video.as_text() for video in batch]})["answer"]
    return [row_in(answer) for answer in answers]


def rows(answers: list[Row | tuple[str, str]]) -> list[Row]:
    assert all(isinstance(each, Row) for each in answers), answers
    return [each for each in answers if isinstance(each, Row)]


def outputs_in(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for kind in ("results", "frames")
        for file in (folder / kind).glob("*")
    }


@contextmanager
def begun(job: Job) -> Iterator[BulkFolder]:
    folder = BulkFolder(job.root)
    with folder.held(job.run):
        yield folder


@pytest.fixture(scope="module")
def expected(
    lite_bundle: Path, films: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What a worker writes that runs one video after the other, undisturbed."""
    job = job_for(lite_bundle, tmp_path_factory.mktemp("expected") / "out")
    with begun(job):
        assert [row.status for row in rows(work(job, planned(job, films)))] == ["done"] * 4
    return outputs_in(job.root)


# ------------------------------------------------------------------------------ what it writes


def test_a_video_has_the_bytes_of_run(
    lite_bundle: Path, films: Path, expected: dict[str, bytes], visolo: Visolo, tmp_path: Path
) -> None:
    results, lines = tmp_path / "r.json", tmp_path / "f.jsonl"
    visolo(
        "run", lite_bundle, films / "film2.mp4", "--backend", "onnxruntime", "--threads", 1,
        "--results", results, "--frames", lines,
    ).succeeded()  # fmt: skip
    (mine,) = (content for name, content in expected.items() if name.startswith("film2-")
               and name.endswith(".json"))  # fmt: skip
    assert results.read_bytes() == mine
    assert len(json.loads(mine)) > 0
    assert lines.read_bytes() in expected.values()


def test_videos_side_by_side_have_the_same_bytes(
    batched_bundle: Path, films: Path, tmp_path: Path
) -> None:
    written = []
    for per_worker in (1, 3):
        job = job_for(batched_bundle, tmp_path / str(per_worker), per_worker=per_worker)
        with begun(job):
            rows(work(job, planned(job, films)))
        written.append(outputs_in(job.root))
    assert len(written[0]) == 8
    assert written[0] == written[1]


def test_the_manifest(lite_bundle: Path, films: Path, tmp_path: Path) -> None:
    job = job_for(lite_bundle, tmp_path / "out")
    videos = planned(job, films / "film0.mp4", films / "film1.mp4")
    with begun(job) as folder:
        work(job, videos)
        merged = folder.merge(videos)
        assert folder.rows() == merged
        assert {row.key for row in merged} == set(folder.done(folder.rows()))
        (job.root / merged[0].outputs[0]).unlink()
        assert set(folder.done(folder.rows())) == {merged[1].key}
        folder.merge(videos)
    (first, second) = read_manifest(job.root / "manifest.parquet")
    assert (first.input, first.status, first.frames) == (videos[0].shown, "done", 7)
    assert second.model_hash == job.model_hash
    assert second.input_hash == videos[1].content
    assert json.loads(second.settings)["backend"] == "onnxruntime"
    assert second.tracks > 0
    assert second.seconds > 0


def test_videos_of_equal_name_and_content_are_one_work(
    lite_bundle: Path, films: Path, tmp_path: Path
) -> None:
    job = job_for(lite_bundle, tmp_path / "out")
    copy = tmp_path / "film0.mp4"
    copy.write_bytes((films / "film0.mp4").read_bytes())
    videos = planned(job, films / "film0.mp4", copy)
    assert videos[0].key == videos[1].key
    with begun(job) as folder:
        work(job, videos[:1])
        assert [row.input for row in folder.merge(videos)] == [each.shown for each in videos]
        assert len(folder.rows()) == 2


def test_what_makes_another_key(lite_bundle: Path, films: Path, tmp_path: Path) -> None:
    job = job_for(lite_bundle, tmp_path)
    (video,) = planned(job, films / "film0.mp4")
    finer = replace(job.settings, inference=replace(job.settings.inference, score_threshold=0.3))
    others = [
        with_key(video, job.model_hash, finer),
        with_key(video, "another", job.settings),
        with_key(replace(video, content="another"), job.model_hash, job.settings),
        with_key(replace(video, name="another"), job.model_hash, job.settings),
    ]
    assert len({each.key for each in (video, *others)}) == 5
    assert replace(video, name="../a b\n:c").stem == f"_a_b__c-{video.key}"


def test_texts_are_read_back(lite_bundle: Path, tmp_path: Path) -> None:
    settings = BulkSettings(identify(str(lite_bundle)).inference, output_size=(48, 64))
    job = replace(job_for(lite_bundle, tmp_path), settings=settings, segment_s=3.0)
    assert Job.from_text(job.as_text()) == job
    (*_, video) = planned(job, data_set(tmp_path))
    assert BulkVideo.from_text(video.as_text()) == video


# ------------------------------------------------------------------------------------- failures


def test_a_damaged_video_keeps_what_came_before(
    lite_bundle: Path, films: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    pictures = write_folder(tmp_path / "sizes", 3, (96, 160))
    (write_folder(tmp_path / "other", 1) / "0.png").rename(pictures / "3.png")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    job = job_for(lite_bundle, tmp_path / "out", per_worker=3)
    videos = planned(job, pictures, tmp_path / "no.mp4", films / "film0.mp4")
    with begun(job):
        changes, unreadable, sound = rows(work(job, videos))
    assert (changes.status, changes.frames) == ("failed", 3)
    assert "ends after 3 frames" in changes.reason
    assert len((job.root / changes.outputs[1]).read_text().splitlines()) == 3
    assert (unreadable.status, unreadable.outputs) == ("failed", ())
    assert f"cannot open '{tmp_path / 'no.mp4'}'" in unreadable.reason
    assert sound.status == "done"
    assert (
        outputs_in(job.root).items()
        >= {
            name: content for name, content in expected.items() if name.startswith("film0-")
        }.items()
    )


def test_what_ends_its_worker_runs_alone_and_is_set_aside(
    lite_bundle: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(lite_bundle, tmp_path / "out", per_worker=4)
    videos = planned(job, films)
    batches: list[list[str]] = []
    play = BulkWorker._play

    def deadly(self: BulkWorker, batch: list[BulkVideo], outputs: dict[str, VideoOutputs]) -> None:
        batches.append([video.name for video in batch])
        if any(video.name == "film1" for video in batch):
            raise SystemExit
        play(self, batch, outputs)

    monkeypatch.setattr(BulkWorker, "_play", deadly)
    with begun(job):
        for _ in range(2):
            with pytest.raises(SystemExit):
                work(job, videos)
        found = {row.input: row for row in rows(work(job, videos))}
    assert batches == [["film0", "film1", "film2", "film3"], ["film0"], ["film1"], ["film2"],
                       ["film3"]]  # fmt: skip
    statuses = [found[video.shown].status for video in videos]
    assert statuses == ["done", "failed", "done", "done"]
    assert "its worker ended 2 times" in found[videos[1].shown].reason


def test_an_output_that_cannot_be_written_is_no_outcome(
    lite_bundle: Path, films: Path, tmp_path: Path
) -> None:
    job = job_for(lite_bundle, tmp_path / "out")
    videos = planned(job, films / "film0.mp4")
    with begun(job) as folder:
        (job.root / "frames").write_text("in the way")
        ((kind, sentence),) = work(job, videos)  # type: ignore[misc]
        assert kind == UNWRITTEN
        assert "cannot write" in str(sentence)
        assert folder.rows() == []
        assert list((job.root / ".visolo-bulk/work").iterdir()) == []
        (job.root / "frames").unlink()
        assert [row.status for row in rows(work(job, videos))] == ["done"]


def test_a_worker_that_cannot_run_anything_says_so(
    lite_bundle: Path, films: Path, tmp_path: Path
) -> None:
    job = job_for(lite_bundle, tmp_path / "out")
    videos = planned(job, films / "film0.mp4")
    with begun(job):
        for wrong, words in (
            (replace(job, model=str(tmp_path / "none.visolo")), "there is no model"),
            (replace(job, model_hash="another"), "copy it there again"),
            (replace(job, run="another"), "one that all machines share"),
        ):
            ((kind, sentence),) = work(wrong, videos)  # type: ignore[misc]
            assert kind == REFUSED
            assert "the worker on" in str(sentence)
            assert words in str(sentence)


# ------------------------------------------------------------------------------------- segments


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_a_cut_video_has_the_bytes_of_an_unbroken_one(
    lite_bundle: Path, films: Path, tmp_path: Path, expected: dict[str, bytes], dies_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The worker dies after each frame in turn; a segment is over at every second one."""
    job = job_for(lite_bundle, tmp_path / "out", segment_s=0.07)
    videos = planned(job, films / "film2.mp4")
    frames, frame = list[int](), VideoOutputs.frame

    def counted(self: VideoOutputs, clip: Clip, *rest: Any) -> None:
        frames.append(rest[1].frame)
        frame(self, clip, *rest)
        if len(frames) == dies_at + 1:
            raise SystemExit

    monkeypatch.setattr(VideoOutputs, "frame", counted)
    with begun(job), pytest.raises(SystemExit):
        work(job, videos)
    with begun(job):  # as the same command begins
        (row,) = rows(work(job, videos))
    assert row.frames == 9
    assert len(frames) - 9 <= 3  # a segment, and the frame in hand
    assert outputs_in(job.root) == {
        name: content for name, content in expected.items() if name.startswith("film2-")
    }
    assert not list((job.root / ".visolo-bulk/segments").iterdir())


def test_a_state_that_cannot_be_read_begins_the_video_anew(
    lite_bundle: Path, films: Path, tmp_path: Path
) -> None:
    job = job_for(lite_bundle, tmp_path / "out", segment_s=100.0)
    videos = planned(job, films / "film0.mp4")
    with begun(job) as folder:
        state = folder.segments(videos[0].key)
        state.mkdir()
        counts = {"frames": 2, "skipped": 0, "instances": 0, "tracks": [], "seconds": 1.0,
                  "size": [96, 160]}  # fmt: skip
        header = {"position": 2, "time_s": 0.1, "counts": counts, "pieces": 0}
        (state / "state").write_bytes(json.dumps(header).encode() + b"\nno state")
        (row,) = rows(work(job, videos))
        assert (row.status, row.outputs) == ("failed", ())
        (row,) = rows(work(job, videos, attempt=2))
        assert (row.status, row.frames) == ("done", 7)
        state.mkdir()
        (state / "state").write_bytes(b"damaged")
        assert segments.Segments(state, 1.0).find() is None


# --------------------------------------------------------------------------------------- inputs


def test_inputs(films: Path, tmp_path: Path) -> None:
    def names(*inputs: object) -> list[str]:
        return [video.name for video in videos_of([str(each) for each in inputs])]

    assert names(films) == ["film0", "film1", "film2", "film3"]
    assert names(films / "film[01].mp4") == ["film0", "film1"]
    assert names(films / "**" / "film[01].mp4") == ["film0", "film1"]
    assert names(films / "film1.mp4", films, f"file://{films}/film1.mp4") == [
        "film1", "film0", "film2", "film3",
    ]  # fmt: skip
    assert [video.kind for video in videos_of([str(write_folder(tmp_path / "f"))])] == ["pictures"]
    listed = videos_of([str(data_set(tmp_path))])
    assert [(each.video_id, each.size) for each in listed] == [(4, (48, 64)), (9, (80, 40))]
    assert len({each.shown for each in listed}) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none.mp4", "there is no video"),
        ("rtsp://camera/1", "is live"),
        ("nonsense://bucket/a.mp4", "cannot read 'nonsense://bucket/a.mp4'"),
        ("memory://no/such.mp4", "there is nothing at 'memory://no/such.mp4'"),
        ("memory://no/*.mp4", "there is no video at"),
    ],
)
def test_inputs_that_are_none(source: str, words: str) -> None:
    with pytest.raises(VisoloError, match=words.replace("*", r"\*")):
        videos_of([source])


def test_videos_in_a_store(
    lite_bundle: Path, films: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """The same results as of the file, but for the name, which has the key of the store's state."""
    store = fsspec.filesystem("memory")
    for number in range(2):
        store.pipe(f"/bulk/film{number}.mp4", (films / f"film{number}.mp4").read_bytes())
    store.pipe("/bulk/notes.txt", b"")
    job = job_for(lite_bundle, tmp_path / "out")
    for source in ("memory://bulk", "memory://bulk/*.mp4"):
        assert [each.name for each in videos_of([source])] == ["film0", "film1"]
    videos = [
        with_key(each, job.model_hash, job.settings)
        for each in with_content(videos_of(["memory://bulk/film0.mp4"]))
    ]
    assert videos[0].shown == "memory://bulk/film0.mp4"
    with begun(job):
        assert [row.status for row in rows(work(job, videos))] == ["done"]
    assert set(outputs_in(job.root).values()) <= set(expected.values())
    store.pipe("/bulk/film0.mp4", b"another")
    changed = list(with_content(videos_of(["memory://bulk/film0.mp4"])))
    assert changed[0].content != videos[0].content
    with begun(job):
        (row,) = rows(work(job, [replace(changed[0], key="other")]))
    assert row.reason.startswith("cannot open 'memory://bulk/film0.mp4' as a video")


def test_a_store_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("403")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "isdir", refuse)
    with pytest.raises(VisoloError, match=r"the store refuses 'memory://a/b.mp4\?key=\*\*\*'"):
        videos_of(["memory://user:word@a/b.mp4?key=abc"])


# ----------------------------------------------------------------------------------- the folder


def test_two_runs_into_one_folder(lite_bundle: Path, tmp_path: Path) -> None:
    job = job_for(lite_bundle, tmp_path / "out")
    second, sentence = BulkFolder(job.root), "another visolo bulk is writing to"
    with begun(job), pytest.raises(VisoloError, match=sentence), second.held("another"):
        pass
    with begun(job):  # it is free again
        pass


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VisoloError, match="is a file"), BulkFolder(tmp_path / "file").held("run"):
        pass
    inside = BulkFolder(tmp_path / "file" / "out")
    with pytest.raises(VisoloError, match="cannot write"), inside.held("run"):
        pass
    (tmp_path / "manifest.parquet").write_text("no manifest")
    with pytest.raises(VisoloError, match="is not a manifest of visolo bulk"):
        BulkFolder(tmp_path).rows()


# ---------------------------------------------------------------------------------- the command


def test_the_command_refuses(
    lite_bundle: Path, films: Path, visolo: Visolo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason=skips.NO_RAY)

    def refused(*arguments: object, words: str) -> None:
        visolo("bulk", *arguments, "-o", tmp_path / "out").refused(words)
        assert not (tmp_path / "out").exists()

    video = films / "film0.mp4"
    refused(lite_bundle, "none.mp4", words="there is no video")
    refused(tmp_path / "none.visolo", video, words="there is no model")
    refused(lite_bundle, video, "--results", "none", words="leaves nothing to write")
    refused(lite_bundle, video, "--segment", "10", words="write 90s, 10m or 1h")
    refused(lite_bundle, video, "--segment", "1m", "--video", words="--segment cannot go on")
    refused(lite_bundle, video, "--classes", "unicorn", words="unicorn")
    refused(lite_bundle, video, "--address", "127.0.0.1:1", words="no Ray cluster answers")
    refused(lite_bundle, video, "--address", "nowhere", words="write HOST:PORT")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    refused(lite_bundle, video, words="pip install 'visolo[bulk]'")


def test_addresses_and_lengths() -> None:
    check_address("")
    check_address("auto")
    assert [seconds_of(text) for text in ("90s", "10m", "1.5h")] == [90, 600, 5400]


def test_what_a_worker_takes(lite_bundle: Path, tmp_path: Path) -> None:
    job = job_for(lite_bundle, tmp_path, threads=0)
    there = replace(job, address="head:6379")

    def taken(job: Job, cpus: int, gpus: int = 0) -> tuple[int, int, int, float]:
        taken = share(job, cpus, gpus)
        return taken.workers, taken.threads, taken.cpus, taken.gpus

    assert taken(job, 2) == (1, 0, 2, 0)  # alone on a machine, the library chooses its threads
    assert taken(job, 16) == (4, 4, 4, 0)
    assert taken(replace(job, workers=2), 2) == (2, 1, 1, 0)
    assert taken(replace(there, threads=2), 64) == (32, 2, 2, 0)
    assert taken(there, 64, gpus=8) == (8, 4, 4, 1)
    assert taken(replace(there, device="cpu"), 64, gpus=8) == (16, 4, 4, 0)
    for wrong, words in (
        (replace(job, threads=8), "lower --threads"),
        (replace(job, workers=3), "not for 3"),
        (replace(job, device="cuda"), "has no GPU"),
    ):
        with pytest.raises(VisoloError, match=words):
            share(wrong, 2, 0)
