"""Shows what a replica in Triton does with streams, and what it costs.

    python benchmarks/triton_streams.py shapes [--streams 8] [--frames 40]

Writes a model repository, serves it with the Triton of nvidia-pytriton, and checks:

- streams that are sent at the same time, by HTTP and by gRPC, get what each gets alone from the
  runtime, bit for bit; so does one that is sent as JPEG;
- a sequence without a start, with a wrong frame or with an unknown setting is refused in a
  sentence, and where it has begun, it goes on;
- one sequence too many is refused at once, and one that idles is forgotten;
- a server that is killed in mid-stream and started again knows nothing of its sequences, and what
  they get from then on is what a new stream gets, under new session numbers;
- a model's process that is killed leaves a server that answers a watchdog's question with an error.

Then it measures milliseconds from a frame to its answer, alone in this process and through Triton,
and how much processors computed for it.
Prints one JSON object; exits with status 1 if a check failed. docs/triton.md says how to install
what it needs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from benchmarks.triton_sender import ANSWERED, Sender, Tensors
from benchmarks.triton_server import NotServedError, TritonServer
from visolo_runtime.models.shipped import model_path
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.pictures import read_jpeg
from visolo_runtime.triton.messages import Answer, answer_tensors
from visolo_runtime.triton.python_backend import BUNDLE
from visolo_runtime.triton.repository import ReplicaOptions, write_repository
from visolo_runtime.triton.settings import MOST_PIXELS
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.sample_clip import sample_frames

_T = TypeVar("_T")
NAME = "tracked"
LONG_S, SHORT_S = 600.0, 3.0
"""Idle times of the replicas: one that forgets nothing here, and one that does."""


def videos(count: int, frames: int) -> list[list[Picture]]:
    """Videos that differ in what they show, and two by two in size."""
    made = []
    for number in range(count):
        height, width = ((360, 640), (240, 320))[number // 2 % 2]
        clip = list(sample_frames(frames + number, height, width))[number:]
        flipped = [frame[:, ::-1] if number % 2 else frame for frame in clip]
        made.append([np.ascontiguousarray(frame) for frame in flipped])
    return made


def alone(model: Model, frames: Sequence[Picture]) -> list[Tensors]:
    """What the runtime makes of a video by itself."""
    session = model.session(record=False)
    return [answer_tensors(Answer("", session.step(frame)), ANSWERED) for frame in frames]


def is_same(expected: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether all of an answer but its session is the same, bit for bit."""
    return all(
        expected[name].dtype == answer[name].dtype and np.array_equal(expected[name], answer[name])
        for name in ANSWERED
        if name != "session"
    )


def at_once(play: Callable[[int], _T], count: int) -> list[_T]:
    """What each of so many threads returns."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(play, range(count)))


def interleaved(
    server: TritonServer, transport: str, films: Sequence[Sequence[Picture]]
) -> list[list[Tensors]]:
    """The answers to streams that are all sent at the same time, each by a connection of its own,
    with pauses at random."""

    def play(number: int) -> list[Tensors]:
        answers = []
        chance, sender = np.random.default_rng(number), Sender(server, NAME, transport)
        for at, frame in enumerate(films[number]):
            time.sleep(chance.random() * 0.02)
            last = at == len(films[number]) - 1
            sequence = f"{transport} {number}"
            answers.append(sender.send(sequence, frame, start=at == 0, end=last))
        sender.close()
        return answers

    return at_once(play, len(films))


def jpeg_of(frame: Picture) -> bytes:
    """A frame as a camera sends it."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG")
    return file.getvalue()


def check_streams(
    server: TritonServer, model: Model, films: list[list[Picture]]
) -> dict[str, bool]:
    """Streams among others get what they get alone."""
    expected = [alone(model, film) for film in films]
    checks = {"instances_were_there": sum(len(e["score"][0]) for e in expected[0]) > 10}
    for transport in ("grpc", "http"):
        answers = interleaved(server, transport, films)
        checks[f"interleaved_{transport}_equals_alone"] = all(
            len(mine) == len(its) and all(map(is_same, mine, its))
            for mine, its in zip(expected, answers, strict=True)
        )
        sessions = {each["session"].item() for stream in answers for each in stream}
        checks[f"a_session_a_stream_{transport}"] = len(sessions) == len(films)
    sender, packed = Sender(server, NAME), [jpeg_of(frame) for frame in films[0][:8]]
    alike = alone(model, [read_jpeg(each, MOST_PIXELS) for each in packed])
    checks["jpeg_equals_alone"] = all(
        is_same(alike[at], sender.send("jpeg", each, start=at == 0, end=at == len(packed) - 1))
        for at, each in enumerate(packed)
    )
    return checks


def check_refusals(server: TritonServer, model: Model, film: list[Picture]) -> dict[str, bool]:
    """What is wrong is refused in a sentence, and sequences go on."""
    sender, expected = Sender(server, NAME), alone(model, film[:3])
    checks = {"missing_start": "START" in sender.refusal("new", film[0])}
    first = sender.send("going", film[0], start=True)
    sentences = {
        "no_jpeg": sender.refusal("going", b"not a picture"),
        "other_size": sender.refusal("going", film[0][:100]),
        "grey": sender.refusal("going", film[0][..., :1]),
        "no_frame": sender.refusal("going"),
        "late_settings": sender.refusal("going", film[1], settings="{}"),
        "unknown_setting": sender.refusal("b", film[0], start=True, settings='{"score": 1}'),
    }
    checks |= {f"refuses_{name}": bool(text) for name, text in sentences.items()}
    checks["unknown_setting_is_named"] = "'score' is unknown" in sentences["unknown_setting"]
    after = [sender.send("going", frame, end=at == 1) for at, frame in enumerate(film[1:3])]
    checks["goes_on_after_refusals"] = all(map(is_same, expected, [first, *after]))
    print(json.dumps(sentences, indent=2), file=sys.stderr)
    return checks


def check_room(server: TritonServer, frame: Picture, streams: int) -> dict[str, bool]:
    """One sequence too many is told so at once, and an idle one makes room."""
    sender = Sender(server, NAME)
    for number in range(streams):
        sender.send(f"room {number}", start=True)
    begin = time.perf_counter()
    refused = sender.refusal("too many", start=True)
    waited_s = time.perf_counter() - begin
    question = sender.send("question", start=True, end=True)
    time.sleep(SHORT_S + 2)
    forgotten = sender.refusal("room 0", frame)
    room = sender.refusal("room again", frame, start=True, end=True)
    return {
        "one_too_many_is_told_at_once": "one too many" in refused and waited_s < SHORT_S / 2,
        "a_full_replica_answers_a_watchdog": question["frame_number"].item() == -1,
        "idle_is_forgotten": "start" in forgotten.lower() and not room,
    }


def check_death(
    serve: Callable[[], TritonServer], model: Model, films: list[list[Picture]]
) -> dict[str, bool]:
    """A replica dies in mid-stream, and another takes its streams."""
    cut = len(films[0]) // 2
    with serve() as server:
        sender, before = Sender(server, NAME), []
        for at in range(cut):
            for number, film in enumerate(films):
                before.append(sender.send(f"s{number}", film[at], start=at == 0))
        server.kill()
        lost = sender.refusal("s0", films[0][cut])
    after: list[list[Tensors]] = [[] for _ in films]
    with serve() as server:
        sender = Sender(server, NAME)
        refused = [sender.refusal(f"s{number}", film[cut]) for number, film in enumerate(films)]
        for at in range(cut, len(films[0])):
            for number, film in enumerate(films):
                after[number].append(sender.send(f"s{number}", film[at], start=at == cut))
        os.kill(server.model_processes()[0], signal.SIGKILL)
        time.sleep(1)
        dead = sender.refusal("question", start=True, end=True)
    expected = [alone(model, film[cut:]) for film in films]
    old = {each["session"].item() for each in before}
    new = {each["session"].item() for stream in after for each in stream}
    return {
        "the_client_sees_the_death": bool(lost),
        "the_next_replica_wants_a_start": all("START" in each for each in refused),
        "tracks_begin_anew": all(
            all(map(is_same, mine, its)) for mine, its in zip(expected, after, strict=True)
        ),
        "sessions_are_new": not old & new and len(new) == len(films),
        "a_dead_model_fails_a_question": bool(dead),
    }


def check_load(repository: Path, work: Path) -> dict[str, bool]:
    """A bundle that is missing in the repository is named."""
    bundle = repository / NAME / "1" / BUNDLE
    aside = bundle.with_suffix(".aside")
    bundle.rename(aside)
    try:
        with TritonServer(repository, work):
            return {"a_missing_bundle_is_named": False}
    except NotServedError as error:
        return {"a_missing_bundle_is_named": f"there is no bundle '{bundle}'" in str(error)}
    finally:
        aside.rename(bundle)


def latency_ms(server: TritonServer, model: Model, films: list[list[Picture]], rounds: int) -> Any:
    """Milliseconds from a frame to its answer, in ways that take turns; of one stream those of the
    processors too, which other programs change less."""
    spent: dict[str, list[float]] = {}
    computed_s = dict.fromkeys(("runtime, one stream", "triton, one stream"), 0.0)
    film, sender = films[0], Sender(server, NAME)

    @contextmanager
    def timed(way: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        spent.setdefault(way, []).append((time.perf_counter() - begin) * 1e3)

    def play(number: int) -> None:
        mine = Sender(server, NAME)
        for at, frame in enumerate(films[number]):
            with timed("triton, all streams at once"):
                last = at == len(film) - 1
                mine.send(f"timed {number}", frame, start=at == 0, end=last)
        mine.close()

    for _ in range(rounds):
        session, begin_s = model.session(record=False), time.process_time()
        for frame in film:
            with timed("runtime, one stream"):
                answer_tensors(Answer("", session.step(frame)), ANSWERED)
        computed_s["runtime, one stream"] += time.process_time() - begin_s
        begin_s = server.processor_s()
        for at, frame in enumerate(film):
            with timed("triton, one stream"):
                sender.send("timed", frame, start=at == 0, end=at == len(film) - 1)
        computed_s["triton, one stream"] += server.processor_s() - begin_s
        sessions = [model.session(record=False) for _ in films]
        for frames in zip(*films, strict=True):
            with timed("runtime, all streams in turn"):
                for each, frame in zip(sessions, frames, strict=True):
                    answer_tensors(Answer("", each.step(frame)), ANSWERED)
        at_once(play, len(films))
    return {
        way: {
            "frames": len(each),
            "p50": round(float(np.percentile(each, 50)), 1),
            "p99": round(float(np.percentile(each, 99)), 1),
        }
        | ({"processor": round(computed_s[way] / len(each) * 1e3, 1)} if way in computed_s else {})
        for way, each in spent.items()
    }


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a bundle, or the name of a model in the package")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--frames", type=int, default=24, help="of each stream")
    parser.add_argument("--rounds", type=int, default=3, help="of the measurement; 0 for none")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    bundle = model_path(options.model)
    model = load(bundle, options.backend, threads=options.threads)
    films = videos(options.streams, options.frames)

    def replica(idle_s: float) -> ReplicaOptions:
        return ReplicaOptions(
            options.streams, idle_s, backend=options.backend, threads=options.threads
        )

    report: dict[str, Any] = {"backend": model.engines.description, "streams": options.streams}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visolo-triton-")))
        repository = work / "repository"
        write_repository(bundle, repository, NAME, replica(SHORT_S))
        checks = check_load(repository, work)
        with TritonServer(repository, work) as server:
            checks |= check_room(server, films[0][0], options.streams)
        write_repository(bundle, repository, NAME, replica(LONG_S))
        with TritonServer(repository, work) as server:
            checks |= check_streams(server, model, films)
            checks |= check_refusals(server, model, films[0])
            if options.rounds:
                report["latency_ms"] = latency_ms(server, model, films, options.rounds)
        checks |= check_death(lambda: TritonServer(repository, work), model, films)
    report["checks"], report["passed"] = checks, all(checks.values())
    print(json.dumps(report, indent=2))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
