"""Runs for very long, and says what grew: memory, descriptors, threads, or the time of a step.

    python benchmarks/soak.py session [--frames 1000000] [--model shapes]
    python benchmarks/soak.py run [--frames 100000] [--drops 10] [--model shapes]

``session`` steps one session. Its engines are played: their outputs for a clip of 240 frames are
recorded once and come again and again, so that a million frames take minutes, and everything that
the host does is done. ``run`` is the command `visolo run` on a camera (MJPEG by HTTP) whose
connection is lost again and again, with real engines, an annotated video and JSON lines.

Memory must stay flat after the first thousand frames: the highest resident size of the last half
may exceed the highest one of the rest by 2 %. The exit status is 1 if anything grew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from visolo_core.contract import GraphName
from visolo_runtime.engines.buffers import CELL_OUTPUTS, DECODE_OUTPUTS, Array
from visolo_runtime.engines.engine import Engine
from visolo_runtime.engines.host_buffers import HostContext
from visolo_runtime.session.loading import Model, load
from visolo_runtime.video.sample_clip import sample_frames

_READ = {*CELL_OUTPUTS, *DECODE_OUTPUTS, "key", "value"}
"""Outputs that the host reads, or that are stored; the others stay as the recording left them."""
_SETTLED = 1000
_GROWTH = 1.02


@dataclass
class Sample:
    """What a process had at some frame."""

    frame: int
    resident_mb: float
    descriptors: int
    threads: int
    step_ms: float = 0.0


def sample(process: int | str, frame: int) -> Sample:
    """What a process has now."""
    folder = Path("/proc") / str(process)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return Sample(
        frame,
        int(status["VmRSS"].split()[0]) / 1024,
        len(list((folder / "fd").iterdir())),
        int(status["Threads"]),
    )


@dataclass
class _Tape:
    """The outputs of one graph, run by run, over one period."""

    runs: list[dict[str, Array]] = field(default_factory=list)
    at: int = 0


class _Recorded(HostContext):
    """Runs a context and keeps what it computed; or plays that again."""

    def __init__(self, context: HostContext, tape: _Tape, playing: Callable[[], bool]) -> None:
        self._context, self._tape, self._playing = context, tape, playing
        self._outputs: dict[str, Array] = {}

    def bind_input(self, name: str, buffer: Array) -> None:
        self._context.bind_input(name, buffer)

    def bind_output(self, name: str, buffer: Array) -> None:
        self._outputs[name] = buffer
        self._context.bind_output(name, buffer)

    def run(self) -> None:
        tape = self._tape
        if self._playing():
            for name, values in tape.runs[tape.at].items():
                np.copyto(self._outputs[name], values)
            tape.at = (tape.at + 1) % len(tape.runs)
            return
        self._context.run()
        tape.runs.append(
            {name: each.copy() for name, each in self._outputs.items() if name in _READ}
        )


class _Player(Engine[HostContext]):
    def __init__(
        self, engine: Engine[HostContext], tape: _Tape, playing: Callable[[], bool]
    ) -> None:
        self._engine, self._tape, self._playing = engine, tape, playing

    def context(self) -> HostContext:
        return _Recorded(self._engine.context(), self._tape, self._playing)


def soak_session(model: Model, frames: int) -> list[Sample]:
    """A session of so many frames, sampled ten times in the first thousand and a hundred times
    after."""
    tapes: dict[GraphName, _Tape] = {graph: _Tape() for graph in model.engines.by_graph}
    playing = False
    engines = replace(
        model.engines,
        by_graph={
            graph: _Player(engine, tapes[graph], lambda: playing)
            for graph, engine in model.engines.by_graph.items()
        },
    )
    forwards = list(sample_frames(121, *model.config.input_size))
    images = forwards + forwards[-2:0:-1]
    session = replace(model, engines=engines).session(record=False)
    for tape in tapes.values():
        tape.runs.clear()  # of warming up
    for image in images:
        session.step(image)
    playing = True
    samples, times = [], list[float]()
    every = max(1, frames // 100)
    for number in range(frames):
        begin = time.perf_counter()
        session.step(images[number % len(images)])
        times.append((time.perf_counter() - begin) * 1e3)
        if number % every == 0 or (number < _SETTLED and number % 100 == 0):
            samples.append(sample("self", number))
            samples[-1].step_ms = median(times)
            times.clear()
            print(samples[-1], file=sys.stderr)
    samples.append(sample("self", frames))
    samples[-1].step_ms = median(times or [0.0])
    return samples


def soak_run(model: str, frames: int, drops: int) -> list[Sample]:
    """``visolo run`` on a camera that is lost so many times."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from loopback_servers import mjpeg_server

    with tempfile.TemporaryDirectory(prefix="visolo-soak-") as name:
        folder = Path(name)
        pictures = folder / "pictures"
        pictures.mkdir()
        each = -(-frames // (drops + 1))
        for number, picture in enumerate(sample_frames(240, 96, 160)):
            Image.fromarray(picture).save(pictures / f"{number:03d}.jpg", quality=90)
        with mjpeg_server(pictures, 10_000, each) as server:
            process = subprocess.Popen(
                [sys.executable, "-m", "visolo", "run", model,
                 f"http://127.0.0.1:{server.port}/", "--live", "all", "--max-frames", str(frames),
                 "--frames", folder / "lines.jsonl", "--video", folder / "out.mp4", "--json"],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            samples: list[Sample] = []
            done = 0
            while process.poll() is None:
                time.sleep(5)
                lines = next(folder.glob(".lines*"), folder / "lines.jsonl")
                if lines.exists() and process.poll() is None:
                    with lines.open("rb") as file:
                        file.seek(max(0, lines.stat().st_size - 20_000))
                        *_, last = [b"", *file.read().splitlines()[:-1]]
                    done = json.loads(last)["frame"] if last.startswith(b"{") else done
                    samples.append(sample(process.pid, done))
                    print(samples[-1], file=sys.stderr)
            report = json.loads(process.communicate()[0])
            print(json.dumps(report, indent=2))
            videos = sorted(file.name for file in folder.glob("out*.mp4"))
            print(f"exit status {process.returncode}, {videos}")
    return samples


def verdict(samples: list[Sample]) -> dict[str, object]:
    """What grew after the first thousand frames."""
    settled = [each for each in samples if each.frame >= _SETTLED]
    half = len(settled) // 2
    early, late = settled[:half], settled[half:]
    memory = max(each.resident_mb for each in late) / max(each.resident_mb for each in early)
    return {
        "frames": samples[-1].frame,
        "resident_mb": [round(settled[0].resident_mb, 1), round(settled[-1].resident_mb, 1)],
        "memory_late_over_early": round(memory, 4),
        "descriptors": [min(e.descriptors for e in settled), max(e.descriptors for e in settled)],
        "threads": [min(e.threads for e in settled), max(e.threads for e in settled)],
        "step_ms": [round(early[0].step_ms, 4), round(late[-1].step_ms, 4)],
        "grew": memory > _GROWTH or late[-1].descriptors > early[0].descriptors + 2
        or late[-1].threads > early[0].threads + 2,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=("session", "run"))
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--drops", type=int, default=10)
    options = parser.parse_args()
    if options.kind == "session":
        samples = soak_session(load(options.model), options.frames or 1_000_000)
    else:
        samples = soak_run(options.model, options.frames or 100_000, options.drops)
    result = verdict(samples)
    print(json.dumps(result))
    sys.exit(int(bool(result["grew"])))


if __name__ == "__main__":
    main()
