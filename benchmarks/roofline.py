"""Measures how close a bundle's graphs come to this machine's peaks, and predicts times on GPUs.

    python benchmarks/roofline.py BUNDLE [--backend auto] [--precision fp32] [--rounds 5]
        [--decode 8] [--out report.json] [--markdown]

The machine's peaks and the graphs are measured in turns, so that each round of the graphs lies
between two measurements of the peaks and is compared with the higher of them. Reported figures,
ratios included, are medians over the rounds. layer_counts.py counts the layers. Times on GPUs are
predicted, not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.gpu_prediction import ASSUMED_SHARE, ASSUMED_START_MS, CARDS, predicted_ms
from benchmarks.layer_counts import Layer, count_bundle, total
from benchmarks.machine_peaks import PeakMeter, Peaks, Run
from visolo_core.contract import GRAPHS, RECENT, GraphName
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.backends import AUTO
from visolo_runtime.engines.buffers import DECODE_LIMIT, FrameInput, Storage
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.openvino.backend import OpenVinoBackend
from visolo_runtime.session.loading import load

FLOOR = """\
The floor of a layer is the larger of two times: its multiply-adds, without those on padding, at the
highest rate that any large product or convolution reached just before or after; and its compulsory
bytes at the rate of a large copy. Compulsory bytes are those that the last-level cache cannot hold:
what the layer reads beyond the size of that cache, and what it writes beyond it. Activations, sums
and copies count nothing. The floor of a graph is the sum over its layers: no library that runs one
layer after the other is faster, unless it multiplies less. Where the engines do (Winograd's
convolution), the remaining products count and the transforms do not; the floor of direct
convolution is listed beside it."""
_LEAST_RUNS, _MOST_RUNS, _LEAST_S = 3, 200, 0.5


@dataclass(frozen=True)
class GraphRound:
    """Times of the graphs, and the peaks measured around them."""

    peaks: Peaks
    graph_ms: dict[GraphName, float]


@dataclass(frozen=True)
class Achieved:
    """A graph, or a part of one, against its floor; medians over the rounds."""

    name: str
    gmacs: float
    """1e9 multiply-adds, as they are usually counted"""
    mb: float
    """megabytes that its layers read and write, from cache or memory"""
    direct_ms: float
    """floor of the multiply-adds if every convolution is computed directly"""
    compute_ms: float
    """floor of the multiply-adds alone"""
    floor_ms: float
    measured_ms: float | None = None
    """None for a part: a library runs a graph as a whole"""
    share: float | None = None
    """floor divided by measured"""


def graph_runs(engines: Engines, masks: int) -> dict[GraphName, Run]:
    """The runtime's own call for each graph, on a frame of noise and a full memory."""
    buffers, row = engines.buffers(), range(1)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*buffers.input_size, 3), np.uint8)
    every_slot, both = np.ones(buffers.slots + 1, np.bool_), np.ones(RECENT, np.bool_)
    inputs, cells = [FrameInput(image, every_slot, both, score_threshold=1.0)], np.arange(masks)

    def frame() -> None:
        buffers.submit(row, inputs)
        buffers.frame()

    frame()
    for slot in range(buffers.slots):
        buffers.store(row, [Storage(slot, keeps_previous=True)])
    return {
        "frame": frame,
        "mask": lambda: buffers.mask([0]),
        "decode": lambda: buffers.decode(0, cells),
        "memory": lambda: buffers.store(row, [Storage(0, keeps_previous=False)]),
    }


def median_ms(run: Run) -> float:
    """Median of runs in a tight loop, after a warm-up run."""
    run()
    seconds: list[float] = []
    while len(seconds) < _LEAST_RUNS or (sum(seconds) < _LEAST_S and len(seconds) < _MOST_RUNS):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return 1e3 * median(seconds)


def measure_graphs(meter: PeakMeter, runs: dict[GraphName, Run], rounds: int) -> list[GraphRound]:
    """Measure peaks and graphs in turns, beginning and ending with peaks."""
    graph_rounds, before = [], meter.measure()
    for number in range(rounds):
        graph_ms = {graph: median_ms(run) for graph, run in runs.items()}
        after = meter.measure()
        peaks, before = before.or_higher(after), after
        graph_rounds.append(GraphRound(peaks, graph_ms))
        figures = ", ".join(f"{graph} {ms:.2f} ms" for graph, ms in graph_ms.items())
        print(
            f"round {number + 1} of {rounds}: {peaks.machine.gmacs:.0f} GMAC/s, "
            f"{peaks.machine.gbs:.0f} GB/s, {figures}",
            file=sys.stderr,
        )
    return graph_rounds


def achieved(name: str, layers: Sequence[Layer], rounds: Sequence[GraphRound]) -> Achieved:
    """The floors of a part of the network."""
    machines = [each.peaks.machine for each in rounds]
    return Achieved(
        name=name,
        gmacs=total(layers, "macs") / 1e9,
        mb=(total(layers, "read_bytes") + total(layers, "written_bytes")) / 1e6,
        direct_ms=median(sum(map(machine.direct_ms, layers)) for machine in machines),
        compute_ms=median(sum(map(machine.compute_ms, layers)) for machine in machines),
        floor_ms=median(sum(map(machine.floor_ms, layers)) for machine in machines),
    )


def achieved_by_graph(
    graph: GraphName, layers: Sequence[Layer], rounds: Sequence[GraphRound]
) -> Achieved:
    """The floors of a graph, and its measured time."""
    own = [layer for layer in layers if layer.graph == graph]
    measured = [each.graph_ms[graph] for each in rounds]
    floors = [sum(map(each.peaks.machine.floor_ms, own)) for each in rounds]
    share = median(floor / ms for floor, ms in zip(floors, measured, strict=True))
    return replace(achieved(graph, own, rounds), measured_ms=median(measured), share=share)


def by_module(layers: Sequence[Layer], rounds: Sequence[GraphRound]) -> list[Achieved]:
    """The floors of each part of each graph."""
    parts = dict.fromkeys((layer.graph, layer.module) for layer in layers)
    return [
        achieved(
            f"{graph}: {module}",
            [layer for layer in layers if (layer.graph, layer.module) == (graph, module)],
            rounds,
        )
        for graph, module in parts
    ]


def roofline(
    path: Path, backend: str = AUTO, precision: str = "fp32", rounds: int = 5, masks: int = 8
) -> dict[str, Any]:
    """Count, measure and predict; the report is ready for JSON.

    Args:
        path: of a bundle with ONNX graphs in this precision.
        backend: the backend that runs it, on the CPU.
        precision: ``fp32`` or ``int8``.
        rounds: number of rounds to measure.
        masks: number of masks that the decode graph decodes.

    Raises:
        VisoloError: if the bundle lacks such graphs, or the backend's peak cannot be measured.
    """
    if not 1 <= masks <= DECODE_LIMIT:
        raise VisoloError(
            f"the decode graph cannot decode {masks} masks at a time: choose 1 to {DECODE_LIMIT}"
        )
    if rounds < 1:
        raise VisoloError(f"{rounds} rounds measure nothing: choose 1 or more")
    engines = load(path, backend, precision=precision).engines
    library = engines.backend
    winograd = library.rewritten if isinstance(library, OpenVinoBackend) else ()
    layers = count_bundle(Bundle(path), masks, precision, winograd)
    meter = PeakMeter(engines, int8=precision == "int8")
    graph_rounds = measure_graphs(meter, graph_runs(engines, masks), rounds)
    machines = [each.peaks.machine for each in graph_rounds]
    return {
        "bundle": path.name,
        "backend": engines.description,
        "precision": precision,
        "masks": masks,
        "floor": " ".join(FLOOR.split()),
        "machine": {
            "gmacs": median(machine.gmacs for machine in machines),
            "int8_gmacs": median(m.int8_gmacs for m in machines) if precision == "int8" else None,
            "gbs": median(machine.gbs for machine in machines),
            "cache_mb": meter.cache_bytes / 1e6 if np.isfinite(meter.cache_bytes) else None,
        },
        "probes_gmacs": {
            name: median(each.peaks.gmacs[name] for each in graph_rounds)
            for name in graph_rounds[0].peaks.gmacs
        },
        "graphs": [asdict(achieved_by_graph(graph, layers, graph_rounds)) for graph in GRAPHS],
        "modules": [asdict(each) for each in by_module(layers, graph_rounds)],
        "predicted": {
            "share": ASSUMED_SHARE,
            "start_ms": ASSUMED_START_MS,
            "cards": [
                {
                    **asdict(card),
                    "at_full_rate_ms": predicted_ms(layers, card, share=1.0),
                    "predicted_ms": predicted_ms(layers, card, start=ASSUMED_START_MS),
                }
                for card in CARDS
            ],
        },
        "rounds": [
            {"gmacs": machine.gmacs, "gbs": machine.gbs, "graph_ms": each.graph_ms}
            for machine, each in zip(machines, graph_rounds, strict=True)
        ],
    }


def tables(report: dict[str, Any], markdown: bool) -> str:
    """The report as text.

    Args:
        report: of :func:`roofline`.
        markdown: whether tables are in Markdown.
    """
    machine, predicted = report["machine"], report["predicted"]
    cache = machine["cache_mb"]
    facts = [
        f"{report['backend']}, {report['precision']}: {report['bundle']}, {report['masks']} masks",
        f"copy {machine['gbs']:.1f} GB/s; last-level cache "
        + (f"{cache:.1f} MB" if cache else "unknown, so no byte counts"),
    ]
    probes = [[name, f"{rate:.1f}"] for name, rate in report["probes_gmacs"].items()]
    head = ["", "GMAC", "MB", "computed directly ms", "multiply-adds ms", "floor ms"]
    graphs = [
        [*_cells(each), f"{each['measured_ms']:.2f}", f"{100 * each['share']:.0f} %"]
        for each in report["graphs"]
    ]
    cards = [
        [
            card["name"], f"{card['tflops']:g}", f"{card['gbs']:g}",
            f"{card['at_full_rate_ms']:.2f}", f"{card['predicted_ms']:.2f}",
            f"{1e3 / card['predicted_ms']:.0f}",
        ]
        for card in predicted["cards"]
    ]  # fmt: skip
    prediction = (
        f"PREDICTED, not measured: a frame in float16, at {100 * predicted['share']:.0f} % of the "
        f"data sheet's rates and {1e3 * predicted['start_ms']:.0f} us to start each layer; the "
        "host's work is not included"
    )
    return "\n\n".join(
        [
            "\n".join(facts),
            FLOOR,
            _table(["peak", "GMAC/s"], probes, markdown),
            _table(["graph", *head[1:], "measured ms", "floor / measured"], graphs, markdown),
            _table(["part", *head[1:]], [_cells(each) for each in report["modules"]], markdown),
            prediction,
            _table(
                ["GPU", "TFLOPS", "GB/s", "at full rates ms", "predicted ms", "predicted FPS"],
                cards,
                markdown,
            ),
        ]
    )


def _cells(part: dict[str, Any]) -> list[str]:
    numbers = ("gmacs", "mb", "direct_ms", "compute_ms", "floor_ms")
    return [part["name"], *(_digits(part[number]) for number in numbers)]


def _digits(number: float) -> str:
    """Three significant digits.

    >>> _digits(82.916), _digits(0.00619), _digits(765.4)
    ('82.9', '0.00619', '765')
    """
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    if markdown:
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in [head, *rows]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default=AUTO)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "int8"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decode", type=int, default=8, help="masks that the decode graph decodes")
    parser.add_argument("--out", type=Path, help="write the report here, as JSON")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    options = parser.parse_args()
    try:
        report = roofline(
            options.bundle, options.backend, options.precision, options.rounds, options.decode
        )
    except VisoloError as error:
        raise SystemExit(f"roofline: {error}") from error
    print(tables(report, options.markdown))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
