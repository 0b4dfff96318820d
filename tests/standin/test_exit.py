"""What is left when a process ends that did not tidy up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import LIMIT_S
from standin.stand_in import StandIn

pytestmark = pytest.mark.standin
CLEAN = "0 streams, 0 events, 0 recordings, 0 bytes, 0 users, 0 in the stack\n"
SCRIPT = """
import sys, threading
from pathlib import Path
from standin.stand_in import StandIn
driver = StandIn(Path(sys.argv[1]))
driver.reset(0)

class Waiting:
    "Waits for its stream when it is dropped, as sessions do."
    def __init__(self, device, stream):
        self.device, self.stream = device, stream
    def __del__(self):
        with self.device.current():
            self.stream.wait()

def hold():
    from visolo_runtime.engines.tensorrt.device import cuda_device
    device = cuda_device()
    with device.current():
        stream, event = device.stream(), device.event()
        event.record(stream)
        memory, pinned = device.allocate(1000, stream), device.pinned((10,), "float32")
        recorded = device.capture(stream, lambda: device.upload(memory.address, pinned, stream))
        recorded.launch(stream)
    globals().update(kept=[Waiting(device, stream), stream, event, memory, pinned, recorded])

if sys.argv[2] == "thread":
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
else:
    hold()
"""


@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_end_of_the_interpreter(whole_driver: StandIn, tmp_path: Path, where: str) -> None:
    report = tmp_path / "report.txt"
    library = whole_driver.library._name
    assert library is not None
    path = [*filter(None, sys.path), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, library, where],
        env={"PYTHONPATH": ":".join(path), "STANDIN_REPORT": str(report)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stderr == ""
    assert report.read_text() == CLEAN
