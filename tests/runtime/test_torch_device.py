"""PyTorch's device buffers with the CPU as the device: order, copies, recordings, precision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helpers import TINY, first_frame
from torch_tape import HostTraffic, TapeRecorder
from untrained import untrained
from visolo_core.categories import SHAPES
from visolo_core.checkpoint_header import CheckpointHeader
from visolo_core.config import InferenceConfig
from visolo_core.contract import GraphName, contract
from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.nn.branches import decode_masks
from visolo_core.nn.checkpoint import Checkpoint
from visolo_core.nn.graphs import graph_modules
from visolo_export.verification import TOLERANCES, verify
from visolo_runtime.engines.buffers import Storage
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.torch.backend import TorchBackend
from visolo_runtime.engines.torch.device_backend import TorchDeviceBackend
from visolo_runtime.engines.torch.device_buffers import TorchBuffers
from visolo_runtime.engines.torch.placing import modules_on
from visolo_runtime.engines.torch.recording import Recorder
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import StreamOptions
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.sample_clip import sample_frames

CPU = torch.device("cpu")
SLOTS = 3
USUAL = InferenceConfig(
    memory_slots=SLOTS, keep_every=2, score_threshold=0.03, update_threshold=0.01
)
Modules = Mapping[GraphName, Callable[..., Any]]
Frame = NDArray[np.uint8]


class RowByRow(nn.Module):
    """A graph that sums in one order whatever is computed with a row, and whose outputs lie in
    memory as those in host buffers do, which the next graph's order depends on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        rows = [
            self.module(*row)
            for row in zip(*(torch.split(each, 1) for each in inputs), strict=True)
        ]
        if isinstance(rows[0], Tensor):
            return torch.cat(rows).contiguous()
        return tuple(torch.cat(each).contiguous() for each in zip(*rows, strict=True))


class OneByOne(nn.Module):
    """The decode graph, mask by mask: products sum in an order that depends on their number."""

    def forward(self, mask_features: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        logits = torch.cat([decode_masks(mask_features, each[None, None])[0] for each in kernels])
        ones = (logits > 0).flatten(1).float()
        sums = [(a.sigmoid() * b).sum() for a, b in zip(logits.flatten(1), ones, strict=True)]
        return (logits > 0).to(torch.uint8), ones.sum(dim=1), torch.stack(sums), ones @ ones.T


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring in a network this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """A network that runs in milliseconds, with more cells than places for candidates."""
    config = replace(TINY, grid=(8, 12), classes=len(SHAPES))
    header = CheckpointHeader(config, SHAPES)
    return Checkpoint(header, untrained(config).state_dict())


@pytest.fixture(scope="module")
def modules(checkpoint: Checkpoint) -> Modules:
    """Graphs that compute the same to the last bit wherever their tensors lie."""
    plain = graph_modules(checkpoint.build())
    return changed(
        {graph: RowByRow(module) for graph, module in plain.items()}, "decode", OneByOne()
    )


def changed(modules: Modules, graph: GraphName, function: Callable[..., Any]) -> Modules:
    """The same graphs with another in the place of one."""
    return {**modules, graph: function}


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    """Frames with instances, and black ones between and at the end."""
    frames = list(sample_frames(12, 64, 96))
    black = np.zeros_like(frames[0])
    return [black, *frames[:5], black, black, *frames[5:], black]


class OnDevice(TorchDeviceBackend):
    """Buffers of the device, recorded by a stand-in if there is one."""

    recorder: Recorder | None = None

    def buffers(self, engines: Engines, rows: int) -> TorchBuffers:
        return TorchBuffers(engines, rows, CPU, recorder=self.recorder)


def both(
    checkpoint: Checkpoint, modules: Modules, batch: int = 1, recorder: Recorder | None = None
) -> tuple[Engines, Engines]:
    """The same modules with buffers on the host and on a device."""
    sized = contract(checkpoint.header.config, SLOTS, batch)
    on_device = OnDevice(modules, CPU)
    on_device.recorder = recorder
    return (
        Engines.compile(TorchBackend(modules, ""), sized, batch),
        Engines.compile(on_device, sized, batch),
    )


def options_of(checkpoint: Checkpoint, **settings: Any) -> StreamOptions:
    inference = replace(USUAL, **settings)
    return StreamOptions(inference, checkpoint.header.labels, record=False)


def check_same(ours: Instances, theirs: Instances) -> None:
    for name in ("tracker_id", "class_id", "confidence", "cell", "input_masks"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("recorder", [None, TapeRecorder], ids=["plain", "recorded"])
@pytest.mark.parametrize(
    ("score_threshold", "fewest", "most"),
    [(0.06, 0, 8), (0.015, 9, 32), (1e-4, 65, 96)],
    ids=["few and none", "many", "more than places"],
)
def test_the_same_as_in_host_memory(
    checkpoint: Checkpoint,
    modules: Modules,
    clip: list[Frame],
    recorder: Callable[[], Recorder] | None,
    score_threshold: float,
    fewest: int,
    most: int,
) -> None:
    """Bit for bit, with three slots, so that kept frames are thinned."""
    tape = recorder() if recorder else None
    host, device = both(checkpoint, modules, recorder=tape)
    options = options_of(checkpoint, score_threshold=score_threshold)
    theirs, buffers = Session(host.buffers(), options), device.buffers()
    ours = Session(buffers, options)
    counts = []
    for frame in clip if most < 65 else clip[:4]:
        check_same(ours.step(frame), theirs.step(frame))
        counts.append(int(buffers.read("count")[0]))
    assert min(counts) <= fewest or most > 64, counts  # or the case does not occur
    assert fewest <= max(counts) <= most, counts
    if isinstance(tape, TapeRecorder):
        assert tape.replayed > 0


@pytest.mark.parametrize("recorder", [None, TapeRecorder], ids=["plain", "recorded"])
def test_several_streams(
    checkpoint: Checkpoint,
    modules: Modules,
    clip: list[Frame],
    recorder: Callable[[], Recorder] | None,
) -> None:
    """Five streams, three of which fit into a launch, and not all have a frame each time."""
    engines = both(checkpoint, modules, batch=3, recorder=recorder() if recorder else None)
    labels = checkpoint.header.labels
    chance = np.random.default_rng(3)
    turns = [
        {row: clip[(step + 3 * row) % len(clip)] for row in range(5) if chance.random() < 0.8}
        for step in range(10)
    ]
    results = []
    for each in engines:
        model = Model(checkpoint.header.config, USUAL, labels, each)
        with Streams(model, [None] * 5) as streams:
            results.append([streams.step(turn) for turn in turns])
    for theirs, ours in zip(*results, strict=True):
        assert ours.keys() == theirs.keys()
        for row in ours:
            check_same(ours[row], theirs[row])
    assert sum(len(each) for turn in results[1] for each in turn.values()) > 5


class Watched:
    """Buffers whose host memory is known, and which compute a frame of a clip."""

    def __init__(self, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
        blocks: list[Tensor] = []
        allocate = TorchBuffers._host_block

        def noted(buffers: TorchBuffers, nbytes: int) -> Tensor:
            blocks.append(allocate(buffers, nbytes))
            return blocks[-1]

        monkeypatch.setattr(TorchBuffers, "_host_block", noted)
        self.buffers = engines.buffers(3)
        self._blocks = blocks

    def step(self, threshold: float = 0.03, rows: range = range(3)) -> HostTraffic:
        """A frame of each row, from the host's call to the stored frame."""
        buffers = self.buffers
        (image,) = sample_frames(1, *buffers.input_size)
        with HostTraffic(self._blocks) as traffic:
            buffers.submit(rows, [first_frame(buffers, image, threshold)] * len(rows))
            candidates = buffers.frame()
            chosen = {row: each for row, each in zip(rows, candidates, strict=True) if len(each)}
            buffers.mask(list(chosen))
            for row, each in chosen.items():
                buffers.decode(row, each.cell)
            buffers.store(rows, [Storage(0, keeps_previous=True)] * len(rows))
        return traffic


def test_what_travels(
    checkpoint: Checkpoint, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One copy up and one down, no operator that waits, and nothing dense."""
    watched = Watched(both(checkpoint, modules, batch=3)[1], monkeypatch)
    watched.step()  # what it found, the next frame expects
    traffic = watched.step()
    assert traffic.others == []
    height, width = watched.buffers.input_size
    config = checkpoint.header.config
    image = height * width * 3 + SLOTS + 1 + 2 + 4
    cells = 4 * (1 + watched.buffers.places * (2 + config.classes + 2 * config.key_width))
    masks = watched.buffers.read("count").max()
    fixed = next(count for count in (8, 16, 32) if count >= min(masks, 32))
    decoded = fixed * (height * width + 4 + 4 + 4 * fixed)
    assert traffic.up == [3 * image]
    assert traffic.down == [3 * (cells + decoded)]
    assert 4 * watched.buffers.read("res2").size > cells  # or the comparison says nothing


def test_an_empty_frame(
    checkpoint: Checkpoint, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No masks are computed, and less than 100 KB comes down."""
    calls = dict.fromkeys(modules, 0)

    def counted(graph: GraphName) -> Callable[..., Any]:
        def call(*inputs: Tensor) -> Any:
            calls[graph] += 1
            return modules[graph](*inputs)

        return call

    watching = {graph: counted(graph) for graph in modules}
    watched = Watched(both(checkpoint, watching, batch=3)[1], monkeypatch)
    watched.step(threshold=1.0)
    calls.update(dict.fromkeys(calls, 0))
    traffic = watched.step(threshold=1.0)
    assert calls == {"frame": 1, "mask": 0, "decode": 0, "memory": 1}
    assert traffic.others == []
    assert len(traffic.up) == len(traffic.down) == 1
    assert traffic.down[0] < 100_000
    # Something after nothing: the masks of each row are asked for and come down on their own.
    traffic = watched.step(rows=range(1))
    assert (calls["mask"], len(traffic.up), len(traffic.down)) == (1, 1, 2)


def test_results_outlive_the_next_launch(
    checkpoint: Checkpoint, modules: Modules, clip: list[Frame]
) -> None:
    buffers = both(checkpoint, modules)[1].buffers()
    inputs = [first_frame(buffers, frame, 0.03) for frame in clip[1:4]]
    for each in inputs[:2]:
        buffers.submit(range(1), [each])
        (candidates,) = buffers.frame()
        buffers.mask([0])
        decoded = buffers.decode(0, candidates.cell)
    kept = [np.copy(each) for each in (candidates.score, candidates.key, *decoded[:4])]
    buffers.submit(range(1), inputs[2:])
    for before, after in zip(kept, (candidates.score, candidates.key, *decoded[:4]), strict=True):
        np.testing.assert_array_equal(before, after)


def test_masks_are_handed_out(checkpoint: Checkpoint, modules: Modules, clip: list[Frame]) -> None:
    """They are the masks, and nothing writes to them afterwards."""
    options = replace(options_of(checkpoint, score_threshold=0.015), device_masks=True)
    _, device = both(checkpoint, modules, recorder=TapeRecorder())
    session = Session(device.buffers(), options)
    taken = []
    for frame in clip:
        instances = session.step(frame)
        assert instances.device_masks is not None
        assert len(instances.device_masks) == len(instances)
        masks = [torch.utils.dlpack.from_dlpack(each) for each in instances.device_masks]
        taken.append((masks, [each.copy() for each in instances.input_masks]))
    assert sum(len(masks) for masks, _ in taken) > 5
    for masks, expected in taken:
        for mask, each in zip(masks, expected, strict=True):
            np.testing.assert_array_equal(mask.numpy(), each)


def test_what_cannot_be_recorded_runs_plainly(
    checkpoint: Checkpoint, modules: Modules, clip: list[Frame], caplog: pytest.LogCaptureFixture
) -> None:
    class Asking(OneByOne):
        def forward(self, mask_features: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
            float(kernels.sum())  # the host waits for it
            return super().forward(mask_features, kernels)

    tape = TapeRecorder()
    asking = changed(modules, "decode", Asking())
    with caplog.at_level(logging.WARNING):
        host, device = both(checkpoint, asking, recorder=tape)
        options = options_of(checkpoint)
        theirs, ours = Session(host.buffers(), options), Session(device.buffers(), options)
        for frame in clip[:4]:
            check_same(ours.step(frame), theirs.step(frame))
    assert "not permitted when stream is capturing" in caplog.text
    assert len(caplog.records) == 2  # one for each object's buffers, and not for each frame
    assert tape.replayed == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("CUDA error: device-side assert triggered\nCompile with"), "cpu failed"),
    ],
)
def test_a_device_that_fails(
    checkpoint: Checkpoint, modules: Modules, clip: list[Frame], error: Exception, words: str
) -> None:
    """One sentence, and the session's buffers stay usable if the device does."""
    failing = False

    def frame(*inputs: Tensor) -> Any:
        if failing:
            raise error
        return modules["frame"](*inputs)

    host, device = both(checkpoint, changed(modules, "frame", frame))
    options = options_of(checkpoint)
    theirs, ours = Session(host.buffers(), options), Session(device.buffers(), options)
    check_same(ours.step(clip[1]), theirs.step(clip[1]))
    failing = True
    with pytest.raises(VisoloError, match=words) as caught:
        ours.step(clip[2])
    assert "\n" not in str(caught.value)
    failing = False
    check_same(ours.step(clip[2]), theirs.step(clip[2]))


def model_of(checkpoint: Checkpoint, engines: Engines) -> Model:
    header = checkpoint.header
    return Model(header.config, USUAL, header.labels, engines)


def test_every_tensor_is_compared_by_verify(checkpoint: Checkpoint, clip: list[Frame]) -> None:
    """The graphs as they are on a GPU, with the channels of an image side by side."""
    reference, _ = both(checkpoint, graph_modules(checkpoint.build()))
    folded = modules_on(checkpoint.build(), CPU)
    for module in folded.values():
        module.to(memory_format=torch.channels_last)
    _, device = both(checkpoint, folded, recorder=TapeRecorder())
    models = [model_of(checkpoint, engines) for engines in (reference, device)]
    result = verify(models[0], models[1], clip[1:7], TOLERANCES["fp32"], lambda _: None)
    assert result.passed, result.failures
    compared = {f"{graph}.{name}" for graph, each in result.tensors.items() for name in each}
    assert {"frame.scores", "mask.mask_features", "decode.area", "memory.value"} <= compared


def test_a_wrong_tensor_is_found_by_verify(checkpoint: Checkpoint, clip: list[Frame]) -> None:
    plain = graph_modules(checkpoint.build())

    def memory(features: Tensor) -> Any:
        return plain["memory"](features) + 0.01

    reference, _ = both(checkpoint, plain)
    _, device = both(checkpoint, changed(plain, "memory", memory))
    models = [model_of(checkpoint, engines) for engines in (reference, device)]
    result = verify(models[0], models[1], clip[1:4], TOLERANCES["fp32"], lambda _: None)
    assert any(each.startswith("memory.value") for each in result.failures)


def test_what_is_written_is_used(
    checkpoint: Checkpoint, modules: Modules, clip: list[Frame]
) -> None:
    """Nothing that was computed ahead of it."""
    _, device = both(checkpoint, modules)
    buffers = device.buffers()
    buffers.submit(range(1), [first_frame(buffers, clip[1], 0.03)])
    (candidates,) = buffers.frame()
    buffers.mask([0])
    buffers.write("mask_features", np.zeros_like(buffers.read("mask_features")))
    assert buffers.decode(0, candidates.cell).area.max() == 0  # no logit is above zero
    features = np.ones_like(buffers.read("features"))
    buffers.write("features", features)
    buffers.store(range(1), [Storage(1, keeps_previous=False)])
    with torch.inference_mode():
        expected = modules["memory"](torch.from_numpy(features)).numpy()
    np.testing.assert_array_equal(buffers.read("memory_value")[:, 1], expected)
