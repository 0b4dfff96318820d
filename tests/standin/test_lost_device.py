"""A device that goes away while it is used: one sentence, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import LIMIT_S
from standin.stand_in import CHANCE, StandIn
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.device import CudaDevice
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = pytest.mark.standin
FRAMES = list(sample_frames(6, 64, 96))
LOST = 719
SENTENCE = (
    "has failed, and this process cannot use it any more: start again, and see what nvidia-smi "
    "reports"
)
SCRIPT = """
import sys
from pathlib import Path
from fake_gpu import fake_tensorrt
from standin.stand_in import DriverQueues, StandIn
driver = StandIn(Path(sys.argv[1]))
driver.reset(0)
sys.modules["tensorrt"] = fake_tensorrt(DriverQueues(driver))

from visolo_core.contract import GRAPHS
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import TensorRtBackend
from visolo_runtime.engines.tensorrt.device import cuda_device
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.video.sample_clip import sample_frames

bundle, folder = Bundle(Path(sys.argv[2])), Path(sys.argv[3])
plans = {graph: folder / f"{graph}.engine" for graph in GRAPHS}
for graph, plan in plans.items():
    plan.write_bytes(str(bundle.folder / f"{graph}.onnx").encode())
backend = TensorRtBackend(TensorRtRuntime("tensorrt", cuda_device()), plans)
engines = Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)
options = load(bundle.folder, "onnxruntime", threads=1).stream_options()
session, dropped = (Session(engines.buffers(), options) for _ in range(2))
frames = list(sample_frames(6, 64, 96))
for frame in frames:
    session.step(frame)
    dropped.step(frame)
driver.lose(1, 719)
del dropped
try:
    for frame in frames * 3:
        session.step(frame)
except VisoloError as error:
    print(error)
"""


def step_through(session: Session, frames: list[Any]) -> None:
    for frame in frames:
        session.step(frame)


@pytest.mark.parametrize("call", range(1, 25))
def test_whatever_call_is_the_first_to_fail(
    driver: StandIn, device: CudaDevice, open_engines: Callable[..., Engines], model: Model,
    call: int,
) -> None:  # fmt: skip
    driver.reset(CHANCE, call)
    session = Session(open_engines().buffers(), model.stream_options())
    step_through(session, FRAMES)
    driver.lose(call, LOST)
    with pytest.raises(VisoloError, match=SENTENCE) as caught:
        step_through(session, FRAMES * 3)
    sentence = str(caught.value)
    del caught  # its traceback would keep the session in a circle
    assert len(sentence.splitlines()) == 1
    assert sentence.startswith(("CUDA: ", "tensorrt cannot"))
    with pytest.raises(VisoloError):
        session.step(FRAMES[0])
    assert driver.depth() == 0
    # A real one stays as it is; this one is needed again.
    driver.reset(CHANCE, call)
    device.current().failed = False


def test_an_error_that_passes_is_no_lost_device(
    driver: StandIn, device: CudaDevice, open_engines: Callable[..., Engines], model: Model
) -> None:
    """A session goes on after it, and pycuda's own errors are sentences too."""
    session = Session(open_engines().buffers(), model.stream_options())
    session.step(FRAMES[0])
    driver.fail("cuMemcpyDtoDAsync_v2", 1, LOST)
    with pytest.raises(VisoloError, match=r"^CUDA: cuMemcpyDtoDAsync failed: unspecified launch"):
        session.step(FRAMES[1])
    assert not device.failed
    session.step(FRAMES[1])


def test_nothing_is_said_when_the_process_ends(
    whole_driver: StandIn, tiny_bundle: Path, tmp_path: Path
) -> None:
    """What is left of the sessions cannot be freed, and nobody tries to."""
    library = whole_driver.library._name
    assert library is not None
    path = [*filter(None, sys.path), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, library, str(tiny_bundle), str(tmp_path)],
        env={"PYTHONPATH": ":".join(path)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert SENTENCE in done.stdout


@pytest.mark.parametrize(
    ("function", "status"), [("cuInit", 803), ("cuDeviceGet", 101), ("cuDevicePrimaryCtxRetain", 2)]
)
def test_a_device_that_cannot_be_opened(
    driver: StandIn, device: CudaDevice, function: str, status: int
) -> None:
    """As with a driver that does not fit, a GPU that is not there, and one without room."""
    driver.fail(function, 1, status)
    with pytest.raises(NotHereError, match=f"there is no GPU 0 to be used: {function} failed"):
        CudaDevice(0)
