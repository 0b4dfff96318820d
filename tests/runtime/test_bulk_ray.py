"""Bulk runs on Ray: on a small cluster that is there already, and on one of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import skips
from clips import write_video
from helpers import Outcome
from visolo_runtime.bulk.manifest import read_manifest

pytest.importorskip("ray", reason=skips.NO_RAY)

Visolo = Callable[..., Outcome]
WITHIN_S = 180.0
CLUSTER = """
import os
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80_000_000)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster on this machine, in a session of its own, with a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        yield from started_cluster()


def started_cluster() -> Iterator[str]:
    for _ in range(3):  # Ray gives itself 30 s to start, whatever the machine has to do
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("address "):
                    yield line.split()[1]
                    return
        finally:
            for number in [process.pid, *processes_of(process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            process.communicate()
    raise AssertionError("Ray does not start")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number in range(6):
        write_video(folder / f"film{number}.mp4", 5 + number)
    return folder


@pytest.fixture(scope="module")
def expected(
    cluster: str,
    lite_bundle: Path,
    films: Path,
    visolo: Visolo,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("expected") / "out"
    done = visolo(*words(lite_bundle, films, out), "--address", cluster).succeeded()
    assert (done.json()["done"], done.json()["already_done"]) == (6, 0)
    return outputs_in(out)


def words(model: Path, films: Path, out: Path, workers: int = 2) -> tuple[object, ...]:
    return (
        "bulk", model, films, "-o", out, "--frames", "--backend", "onnxruntime", "--threads", 1,
        "--workers", workers, "--json",
    )  # fmt: skip


def outputs_in(out: Path) -> dict[str, bytes]:
    files = [*out.glob("results/*"), *out.glob("frames/*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def processes_of(leader: int) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        with suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return found


def process_named(parent: int, word: str) -> int | None:
    """A process that a bulk run has begun, by its command line."""
    with suppress(OSError, IndexError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for number in processes_of(int(children[0])):
            if word.encode() in Path(f"/proc/{number}/cmdline").read_bytes():
                return number
    return None


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "visolo", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_is_missing_is_done_and_nothing_else(
    cluster: str, lite_bundle: Path, films: Path, expected: dict[str, bytes], visolo: Visolo,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One worker at first, then two; a damaged video, which is mended in between."""
    some, out = tmp_path / "some", tmp_path / "out"
    some.mkdir()
    for number in range(3):
        shutil.copy(films / f"film{number}.mp4", some)
    (some / "film3.mp4").write_bytes(b"no video")
    first = visolo(*words(lite_bundle, some, out, 1), "--address", cluster)
    assert first.status == 1
    assert [each["input"] for each in first.json()["failed"]] == [str(some / "film3.mp4")]
    assert "(it is tried again)" in first.err
    attempts = [row.attempt for row in read_manifest(out / "manifest.parquet")]
    assert attempts == [1, 1, 1, 2]
    times = {file: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
    for number in range(3, 6):
        shutil.copy(films / f"film{number}.mp4", some)
    second = visolo(*words(lite_bundle, some, out), "--address", cluster).succeeded().json()
    assert (second["done"], second["already_done"]) == (6, 3)
    assert outputs_in(out) == expected
    assert times == {file: file.stat().st_mtime_ns for file in times}
    third = visolo(*words(lite_bundle, some, out), "--address", "127.0.0.1:1")
    third.refused("no Ray cluster answers at '127.0.0.1:1'")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    fourth = visolo(*words(lite_bundle, films, tmp_path / "new"), "--address", cluster)
    fourth.refused("asks for its token: set RAY_AUTH_MODE=token")
    assert not (tmp_path / "new" / "manifest.parquet").exists()


def test_ctrl_c_keeps_what_is_done(
    cluster: str, lite_bundle: Path, films: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = started(*words(lite_bundle, films, out, 1), "--address", cluster)
    until(lambda: list(out.glob("results/*")), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert said == "visolo: interrupted: the same command does the rest\n"
    assert outputs_in(out).items() <= expected.items()
    assert read_manifest(out / "manifest.parquet")
    assert {each.name for each in (out / ".visolo-bulk").iterdir()} == {"lock", "here", "segments"}


@pytest.mark.slow  # a cluster of its own, whose death Ray notices after a while
def test_a_machine_that_is_lost(
    lite_bundle: Path, films: Path, expected: dict[str, bytes], visolo: Visolo, cluster: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A worker, and then Ray's node, are killed: one sentence, and the same command does the
    rest."""
    out = tmp_path / "out"
    process = started(*words(lite_bundle, films, out, 1))
    until(lambda: list(out.glob("results/*")), process)
    for word in ("ray::MapWorker", "/raylet"):
        number = process_named(process.pid, word)
        assert number is not None, word
        os.kill(number, signal.SIGKILL)
    answer, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1
    assert "Ray" in json.loads(answer)["ended"]
    assert "Traceback" not in said
    assert outputs_in(out).items() <= expected.items()
    visolo(*words(lite_bundle, films, out), "--address", cluster).succeeded()
    assert outputs_in(out) == expected
