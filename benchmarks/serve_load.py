"""Measures a server under load: many viewers of one stream, or very many frames.

    python benchmarks/serve_load.py shapes --viewers 50 --seconds 20
    python benchmarks/serve_load.py MODEL --viewers 8 --stuck 1 --frames 100000

The stream is the generated clip, again and again, as from a camera. Viewers run in a process of
their own; they answer a message as soon as it is there and do not decode it. A stuck viewer answers
nothing and comes back when the server lets it go. Prints one JSON object: frames a second of the
engines and of the viewers; milliseconds from a frame's arrival until its instances are there
(``engine_ms``) and until its message is handed to a viewer's connection (``sent_ms``); and the
server's resident memory along the way, as pairs of frames and MB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from visolo_runtime.bench import resident_mb
from visolo_runtime.serving.app import create_app
from visolo_runtime.serving.guard import Guard
from visolo_runtime.serving.guarded import guarded
from visolo_runtime.serving.hub import Hub
from visolo_runtime.serving.running import server
from visolo_runtime.serving.service import Service
from visolo_runtime.session.loading import load
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.video.sample_clip import sample_frames

_AGE = struct.Struct("<f")
_AGE_AT = 20  # bytes into a message, see docs/serve-protocol.md
_SETTLED_FRAMES = 2000  # until then memory may grow: buffers, deques and caches fill


def camera(fps: float, height: int, width: int) -> Clip:
    """Frames at a constant rate, without an end."""
    pictures = list(sample_frames(60, height, width))

    def play() -> Iterator[SourceFrame]:
        begin, number = time.perf_counter(), 0
        while True:
            time.sleep(max(0.0, begin + number / fps - time.perf_counter()))
            yield SourceFrame(pictures[number % len(pictures)], number / fps)
            number += 1

    return Clip(1, "camera", play, live=True)


@contextmanager
def served(hub: Hub) -> Iterator[int]:
    """The hub's server, and its port."""
    service = Service("measured", hub, Guard())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = server(guarded(create_app(service), service.guard), "127.0.0.1", 0)
        thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def view(address: str, end: threading.Event, answers: bool, received: list[float]) -> None:
    """One viewer; appends the age of each message."""
    while not end.is_set():
        try:
            with connect(address, max_size=None) as connection:
                while not end.is_set():
                    try:
                        message = connection.recv(timeout=0.5)
                    except TimeoutError:
                        continue
                    if answers and isinstance(message, bytes):
                        received.append(_AGE.unpack_from(message, _AGE_AT)[0])
                        connection.send("shown")
        except (ConnectionClosed, OSError):
            time.sleep(0.1)


def viewers(address: str, count: int, stuck: int, pipe: Connection) -> None:
    """All viewers, until the pipe says so; sends the ages of each one's messages."""
    end = threading.Event()
    received: list[list[float]] = [[] for _ in range(count)]
    threads = [
        threading.Thread(target=view, args=(address, end, at >= stuck, received[at]))
        for at in range(count)
    ]
    for thread in threads:
        thread.start()
    pipe.recv()
    for each in received:  # from here on it is measured
        each.clear()
    begin = time.perf_counter()
    pipe.recv()
    seconds = time.perf_counter() - begin
    end.set()
    for thread in threads:
        thread.join()
    pipe.send((seconds, received[stuck:]))


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99."""
    return {
        name: round(float(np.percentile(values, share)), 1)
        for name, share in (("p50", 50), ("p99", 99))
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--stuck", type=int, default=0, help="of the viewers, answer nothing")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--frames", type=int, default=0, help="in place of seconds")
    parser.add_argument("--fps", type=float, default=25, help="of the camera")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), help="height, width")
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    with Hub(load(options.model, options.backend), 1) as hub, served(hub) as port:
        stream = hub.add(camera(options.fps, *options.size))
        here, there = multiprocessing.get_context("spawn").Pipe()
        address = f"ws://127.0.0.1:{port}/api/watch?stream={stream.number}"
        process = multiprocessing.get_context("spawn").Process(
            target=viewers, args=(address, options.viewers, options.stuck, there)
        )
        process.start()
        while len(stream.listeners) < options.viewers:
            time.sleep(0.1)
        least = _SETTLED_FRAMES if options.frames else 25
        while stream.frames < least:
            time.sleep(0.1)
        here.send("measure")
        begin, first = time.perf_counter(), stream.frames
        memory = [(first, round(resident_mb(), 1))]
        while True:
            time.sleep(1.0)
            measured, seconds = stream.frames - first, time.perf_counter() - begin
            if options.frames and stream.frames - memory[-1][0] >= options.frames // 10:
                memory.append((stream.frames, round(resident_mb(), 1)))
            if measured >= options.frames if options.frames else seconds >= options.seconds:
                break
        latency = list(stream.latency_ms)[-measured:]
        memory.append((stream.frames, round(resident_mb(), 1)))
        here.send("end")
        viewed_s, ages = here.recv()
        process.join()
    rates = [len(each) / viewed_s for each in ages]
    print(
        json.dumps(
            {
                "viewers": options.viewers,
                "stuck": options.stuck,
                "seconds": round(seconds, 1),
                "frames": measured,
                "engine_fps": round(measured / seconds, 1),
                "engine_ms": percentiles(latency),
                "viewer_fps": {"least": round(min(rates), 1), "most": round(max(rates), 1)},
                "sent_ms": percentiles([age for each in ages for age in each]),
                "memory_mb": memory,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
