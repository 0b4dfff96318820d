"""What starts a training on several machines: it parses, and its training is one that exists."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from visolo_train.learning.recipe import read_recipe

FOLDER = Path(__file__).parents[1] / "docker/train"


def check_torchrun(words: list[str]) -> None:
    """Processes that die are begun again, and go on."""
    own, training = words[: words.index("visolo")], words[words.index("visolo") + 1 :]
    assert own[0] == "torchrun"
    assert {"--nnodes", "--nproc-per-node", "--max-restarts", "--rdzv-backend"} <= set(own)
    assert own[-1] == "--no-python"
    assert training[0] == "train"
    assert "--resume" in training


def test_slurm() -> None:
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "#SBATCH --requeue" in text
    (line,) = [each for each in text.replace("\\\n", " ").splitlines() if each[:5] == "srun "]
    check_torchrun(shlex.split(line)[1:])


def test_kubernetes() -> None:
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    (container,) = pod["containers"]
    command = [part for word in container["command"] for part in word.split("=", 1)]
    check_torchrun(command)
    assert f"{job['metadata']['name']}-0.{pod['subdomain']}:29400" in command
    assert str(job["spec"]["completions"]) == command[command.index("--nnodes") + 1]
    begin = container["command"].index("train") + 1
    recipe, *options = container["command"][begin:]
    read_recipe(recipe, [each[6:] for each in options if each.startswith("--set=")])
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}


def test_ray() -> None:
    told = subprocess.run(
        [sys.executable, FOLDER / "ray_train.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--failures" in told.stdout
