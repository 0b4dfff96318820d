"""Sequences become sessions, without Triton: each begins, goes on, and ends or is forgotten."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams
from visolo_runtime.sources.pictures import read_jpeg
from visolo_runtime.triton.messages import Answer, Request
from visolo_runtime.triton.sequences import Sequences
from visolo_runtime.triton.settings import SETTING_NAMES, parse_settings
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.sample_clip import sample_frames

FRAMES = list(sample_frames(12, 96, 160))
VIDEOS = [FRAMES, FRAMES[::-1], [np.ascontiguousarray(frame[:, ::-1]) for frame in FRAMES],
          list(sample_frames(12, 64, 128))]  # fmt: skip
IDLE_S = 60.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime", threads=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sequences(model: Model, clock: Clock) -> Iterator[Sequences]:
    with Sequences(model, 3, IDLE_S, clock) as opened:
        yield opened


def ask(
    sequence: int | str,
    image: Picture | None = None,
    start: bool = False,
    end: bool = False,
    **more: Any,
) -> Request:
    return Request(sequence, start, end, image, **more)


def answer(sequences: Sequences, request: Request) -> Answer:
    (given,) = sequences.step([request])
    assert isinstance(given, Answer), given
    return given


def refusal(sequences: Sequences, request: Request) -> str:
    (given,) = sequences.step([request])
    assert isinstance(given, VisoloError)
    return str(given)


def is_same(one: Instances, other: Instances) -> bool:
    """Bit for bit."""
    return (
        one.frame == other.frame
        and one.size == other.size
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("tracker_id", "class_id", "confidence", "track_confidence", "masks")
        )
    )


def test_interleaved_sequences_get_what_each_gets_alone(model: Model) -> None:
    chance = np.random.default_rng(19)
    expected = []
    for video in VIDEOS:
        session = model.session(record=False)
        expected.append([session.step(frame) for frame in video])
    assert sum(map(len, expected[0])) > 10  # or nothing is tested
    given: list[list[Instances]] = [[] for _ in VIDEOS]
    with Sequences(model, len(VIDEOS), IDLE_S) as sequences:
        while any(len(done) < len(FRAMES) for done in given):
            ready = [
                number for number, done in enumerate(given)
                if len(done) < len(FRAMES) and chance.random() < 0.7
            ]  # fmt: skip
            chance.shuffle(ready)  # Triton has no order
            requests = [
                ask(
                    f"camera {number}", VIDEOS[number][at := len(given[number])],
                    start=at == 0, end=at == len(FRAMES) - 1,
                )
                for number in ready
            ]  # fmt: skip
            for number, each in zip(ready, sequences.step(requests), strict=True):
                assert isinstance(each, Answer)
                given[number].append(each.instances)
        assert sequences.open == ()
    for mine, its in zip(expected, given, strict=True):
        assert all(map(is_same, mine, its))


def test_frames_of_several_sequences_go_through_the_graphs_together(
    batched_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    with Sequences(load(batched_bundle, "onnxruntime"), 3, IDLE_S) as sequences:
        buffers = sequences._streams._buffers
        submit = buffers.submit

        def counted(rows: range, inputs: Any) -> None:
            calls.append(len(inputs))
            submit(rows, inputs)

        monkeypatch.setattr(buffers, "submit", counted)
        sequences.step([ask(each, FRAMES[0], start=True) for each in "abc"])
        sequences.step([ask(each, FRAMES[1]) for each in "ca"])
        sequences.step([ask("b", end=True), ask("a", FRAMES[2])])
        sequences.step([ask("d", FRAMES[0], start=True), ask("a", FRAMES[3])])
    assert calls == [3, 1, 1, 1, 2]  # the rows of a and c are no neighbours; d has that of b


def test_a_sequence_without_a_start_is_refused(sequences: Sequences) -> None:
    says = refusal(sequences, ask(7, FRAMES[0]))
    assert says.startswith("sequence 7 has no session here")
    assert "start" in says
    assert "no session" in refusal(sequences, ask(7, FRAMES[0], end=True))
    assert sequences.open == ()


def test_a_sequence_that_has_ended_has_to_begin_anew(sequences: Sequences) -> None:
    first = answer(sequences, ask("a", FRAMES[0], start=True, end=True))
    assert "has ended" in refusal(sequences, ask("a", FRAMES[1]))
    again = answer(sequences, ask("a", FRAMES[0], start=True))
    assert is_same(first.instances, again.instances)
    assert first.session != again.session


def test_a_second_start_forgets_all_tracks(sequences: Sequences) -> None:
    first = answer(sequences, ask("a", FRAMES[0], start=True))
    answer(sequences, ask("a", FRAMES[1]))
    again = answer(sequences, ask("a", FRAMES[0], start=True))
    assert is_same(first.instances, again.instances)
    assert first.session != again.session
    assert sequences.open == ("a",)


def test_one_sequence_too_many_is_refused_until_another_ends(sequences: Sequences) -> None:
    for name in "abc":
        answer(sequences, ask(name, FRAMES[0], start=True))
    says = refusal(sequences, ask("d", FRAMES[0], start=True))
    assert says.startswith("sequence 'd' is one too many: this replica has room for 3;")
    assert "no session" in refusal(sequences, ask("d", FRAMES[1]))
    assert answer(sequences, ask("b", FRAMES[1])).instances.frame == 1  # the others go on
    answer(sequences, ask("b", end=True))
    answer(sequences, ask("d", FRAMES[0], start=True))


def test_a_question_takes_no_room(sequences: Sequences) -> None:
    for name in "abc":
        answer(sequences, ask(name, FRAMES[0], start=True))
    given = answer(sequences, ask("watchdog", start=True, end=True))
    assert (given.session, given.instances.frame, len(given.instances)) == ("", -1, 0)
    assert answer(sequences, ask("a", FRAMES[1])).instances.frame == 1
    answer(sequences, ask("a", start=True, end=True))  # by the name of a sequence, it ends that
    assert sequences.open == ("b", "c")


def test_an_idle_sequence_is_forgotten(sequences: Sequences, clock: Clock) -> None:
    for name in "abc":
        answer(sequences, ask(name, FRAMES[0], start=True))
    clock.now += IDLE_S
    answer(sequences, ask("a", FRAMES[1]))
    clock.now += 1
    assert "was idle for 60 seconds" in refusal(sequences, ask("b", FRAMES[1]))
    assert list(sequences.open) == ["a"]
    answer(sequences, ask("d", FRAMES[0], start=True))


def test_a_start_and_an_end_need_no_frame(sequences: Sequences) -> None:
    opened = answer(sequences, ask("a", start=True))
    assert (opened.instances.frame, len(opened.instances)) == (-1, 0)
    first = answer(sequences, ask("a", FRAMES[0]))
    assert (first.session, first.instances.frame) == (opened.session, 0)
    assert answer(sequences, ask("a", end=True)).session == opened.session
    assert sequences.open == ()


def jpeg_of(frame: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG")
    return file.getvalue()


def test_a_frame_may_be_a_jpeg(sequences: Sequences, model: Model) -> None:
    data = jpeg_of(FRAMES[0])
    expected = model.session(record=False).step(read_jpeg(data, 1 << 20))
    assert is_same(answer(sequences, ask("a", start=True, jpeg=data)).instances, expected)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (ask("a", jpeg=b"\xff\xd8\xff"), "not a JPEG"),
        (ask("a", jpeg=b""), "not a JPEG"),
        (ask("a", FRAMES[1][:50]), "is 160x50, but the video began with 160x96"),
        (ask("a", FRAMES[1][..., 0]), "uint8 array"),
        (ask("a", np.zeros((0, 160, 3), np.uint8)), "uint8 array"),
        (ask("a"), "sequence 'a' has no frame: send an image or a jpeg"),
        (ask("a", FRAMES[1], jpeg=jpeg_of(FRAMES[1])), "an image and a jpeg"),
        (ask("a", FRAMES[1], settings="{}"), "send them with the start"),
        (ask("a", np.broadcast_to(np.uint8(0), (4400, 7681, 3))), "33177600 pixels at most"),
    ],
)
def test_a_sequence_goes_on_after_a_wrong_request(
    sequences: Sequences, model: Model, wrong: Request, says: str
) -> None:
    alone = model.session(record=False)
    expected = [alone.step(frame) for frame in FRAMES[:2]]
    begin = [ask("a", FRAMES[0], start=True), ask("b", FRAMES[0], start=True)]
    first = sequences.step(begin)[0]
    refused, other = sequences.step([wrong, ask("b", FRAMES[1])])
    assert isinstance(refused, VisoloError)
    assert says in str(refused)
    second = answer(sequences, ask("a", FRAMES[1]))
    for mine, given in zip([*expected, expected[1]], (first, second, other), strict=True):
        assert isinstance(given, Answer)
        assert is_same(mine, given.instances)


def test_a_start_with_a_wrong_frame_has_begun(sequences: Sequences) -> None:
    assert "JPEG" in refusal(sequences, ask("a", start=True, jpeg=b"no"))
    assert answer(sequences, ask("a", FRAMES[0])).instances.frame == 0


def test_an_end_with_a_wrong_frame_is_an_end(sequences: Sequences) -> None:
    answer(sequences, ask("a", FRAMES[0], start=True))
    assert "JPEG" in refusal(sequences, ask("a", end=True, jpeg=b"no"))
    assert sequences.open == ()


def test_engines_that_fail_end_the_sequences_that_had_a_frame(
    sequences: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        answer(sequences, ask(name, FRAMES[0], start=True))

    def lost(*_: object) -> None:
        raise VisoloError("the GPU was lost")

    with monkeypatch.context() as patch:
        patch.setattr(Streams, "step_each", lost)
        assert refusal(sequences, ask("a", FRAMES[1])) == "the GPU was lost"
        assert list(sequences.open) == ["b"]
        patch.setattr(Streams, "step_each", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sequences.step([ask("b", FRAMES[1])])
    assert sequences.open == ()
    for name in "abc":  # all rows are free
        answer(sequences, ask(name, FRAMES[0], start=True))


def test_two_requests_of_a_sequence_are_a_mistake_of_the_caller(sequences: Sequences) -> None:
    with pytest.raises(ValueError, match="two requests"):
        sequences.step([ask("a", FRAMES[0], start=True), ask("a", FRAMES[1])])


def test_numbers_and_texts_are_different_names(sequences: Sequences) -> None:
    answer(sequences, ask(1, FRAMES[0], start=True))
    assert "sequence '1' has no session" in refusal(sequences, ask("1", FRAMES[1]))


@pytest.mark.parametrize(("most", "idle_s"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_no_room_or_no_time(model: Model, most: int, idle_s: float) -> None:
    with pytest.raises(VisoloError, match="needs"):
        Sequences(model, most, idle_s)


# -------------------------------------------------------------------------------- settings


def test_settings_belong_to_one_sequence(sequences: Sequences, model: Model) -> None:
    settings = '{"score_threshold": 0.9, "update_threshold": 0.9, "mask_size": [12, 20]}'
    strict, plain = sequences.step(
        [ask("a", FRAMES[0], start=True, settings=settings), ask("b", FRAMES[0], start=True)]
    )
    assert isinstance(strict, Answer)
    assert isinstance(plain, Answer)
    assert strict.instances.size == (12, 20)
    assert len(strict.instances) < len(plain.instances)
    assert is_same(plain.instances, model.session(record=False).step(FRAMES[0]))


def test_classes_that_are_kept(sequences: Sequences, model: Model) -> None:
    expected = model.only("disc,star").session(record=False).step(FRAMES[0])
    given = answer(
        sequences, ask("a", FRAMES[0], start=True, settings='{"classes":["disc","star"]}')
    )
    assert is_same(given.instances, expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "not json"),
        ("[1]", "json object"),
        ('{"score": 1}', f"setting 'score' is unknown: choose from {', '.join(SETTING_NAMES)}"),
        ('{"score_threshold": "high"}', "'score_threshold' needs a number of type float"),
        ('{"score_threshold": true}', "'score_threshold' needs a number of type float"),
        ('{"score_threshold": NaN}', "finite"),
        ('{"score_threshold": 7}', "score_threshold must be in 0 to 1"),
        ('{"nms_sigma": 1' + "0" * 400 + "}", "'nms_sigma' is too large"),
        ('{"keep_every": 2.5}', "'keep_every' needs a number of type int"),
        ('{"memory_slots": 99}', "exported with"),
        ('{"classes": []}', "list of names"),
        ('{"classes": "disc"}', "list of names"),
        ('{"classes": ["unicorn"]}', "unicorn"),
        ('{"mask_size": [3]}', "height and a width"),
        ('{"mask_size": [0, 4]}', "height and a width"),
        ('{"mask_size": [100000, 100000]}', "33177600 pixels at most"),
    ],
)
def test_wrong_settings_begin_nothing(sequences: Sequences, text: str, says: str) -> None:
    assert says in refusal(sequences, ask("a", FRAMES[0], start=True, settings=text))
    assert sequences.open == ()
    assert "no session" in refusal(sequences, ask("a", FRAMES[1]))


def test_no_settings_change_nothing(model: Model) -> None:
    for text in (None, "", "{}"):
        settings = parse_settings(text, model)
        assert (settings.model, settings.mask_size) == (model, None)


# --------------------------------------------------------------------------------- streams


def test_a_refused_frame_holds_up_its_own_stream_only(model: Model) -> None:
    with Streams(model, [None, None]) as streams:
        streams.step({0: FRAMES[0], 1: FRAMES[0]})
        results = streams.step_each({0: FRAMES[1][:9], 1: FRAMES[1]})
        assert isinstance(results[0], VisoloError)
        assert isinstance(results[1], Instances)
        assert [session.frames for session in streams.sessions] == [1, 2]
        assert streams.step_each({}) == {}
