"""The same on a real Triton, that of nvidia-pytriton in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import skips
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.triton.messages import ANSWER_TENSORS, REQUEST_TENSORS
from visolo_runtime.triton.repository import ReplicaOptions, config_text

ROOT = Path(__file__).parents[2]
READ = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(sys.stdin.read(), model_config_pb2.ModelConfig())
print(json_format.MessageToJson(config, preserving_proto_field_name=True))
"""


@pytest.fixture(scope="module")
def python() -> str:
    """The Python that has Triton."""
    named = os.environ.get("VISOLO_TRITON", "")
    if not named:
        pytest.skip(skips.NO_TRITON)
    # A named Python that does not exist is a mistake, which a skip would hide.
    assert Path(named).is_file(), f"VISOLO_TRITON is '{named}', which does not exist"
    return named


def run(python: str, *arguments: object, text: str = "") -> str:
    """Standard output of that Python, with this checkout on its path."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])
    done = subprocess.run(
        [python, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=570,
        env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("device", ["", "cuda", "cuda:1"])
def test_triton_reads_the_configuration(python: str, device: str) -> None:
    """With Triton's own definition of it."""
    options = ReplicaOptions(streams=20, device=device)
    config = json.loads(run(python, "-c", READ, text=config_text("a", 4, options)))
    assert config["max_batch_size"] == 4
    for specs, tensors in ((REQUEST_TENSORS, config["input"]), (ANSWER_TENSORS, config["output"])):
        stated = [(each["name"], tuple(map(int, each["dims"]))) for each in tensors]
        assert stated == [(spec.name, spec.dims) for spec in specs]
    batching = config["sequence_batching"]
    assert len(batching["control_input"]) == 2
    assert batching["oldest"]["max_candidate_sequences"] == 40
    assert config["instance_group"][0].get("gpus") == ([1] if device == "cuda:1" else None)


def test_every_proof_on_a_running_server(python: str) -> None:
    script = ROOT / "benchmarks/triton_streams.py"
    report = json.loads(run(python, script, shipped_model(), "--frames", 6, "--rounds", 0))
    assert len(report["checks"]) > 20
    assert report["passed"]
