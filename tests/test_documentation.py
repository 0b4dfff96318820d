"""The pages are right: commands parse, Python runs, and everything they name exists."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import re
import runpy
import shlex
import shutil
import sys
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from typer.core import TyperGroup

from clips import write_video
from helpers import run_visolo
from packaging_hook import dependencies
from serving import serving
from visolo.cli import COMMANDS, app
from visolo.commands.doctor import print_diagnosis
from visolo_core.categories import SHAPES
from visolo_core.masks import encode_rle
from visolo_runtime.bundle import Bundle
from visolo_runtime.diagnosis import BackendCheck, Computer, Diagnosis, DriverCheck
from visolo_runtime.engines.nvidia import Driver, Gpu
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.session.loading import load
from visolo_runtime.sources.opening import open_source
from visolo_train.data.synthetic import draw_clip

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "runtime/visolo_runtime/models/MODEL_CARD.md",
    ROOT / "runtime/visolo_runtime/models/EVERYDAY_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SERVER = "http://127.0.0.1:8765"
"""Examples that use it run against a server."""


class WrongLineError(Exception):
    """A line that does not do what it says."""


# --------------------------------------------------------------------- what is on the pages


def blocks(page: Path, *languages: str) -> list[str]:
    """Code blocks of a page in one of the languages; '' selects blocks that name none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in fenced if language in languages]


def spans(page: Path) -> list[str]:
    """Code within the text of a page, one line each."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def lines(beginning: str) -> list[Any]:
    """Lines of code blocks that begin with a word, as test parameters."""
    return [
        pytest.param(line, id=f"{page.name}: {line}")
        for page in PAGES
        for block in blocks(page, "", "sh", "bash")
        for line in block.splitlines()
        if line.startswith(f"{beginning} ")
    ]


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{page.name} {number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, "python"), start=1)
        if SERVER not in block
    ]


# -------------------------------------------------------------------------------- checkers


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, through groups of commands, and its arguments."""
    command: Any = typer.main.get_command(app)
    for place, word in enumerate(words):
        if not isinstance(command, TyperGroup):
            return command, words[place:]
        inner = command.get_command(None, word)  # type: ignore[arg-type]
        if inner is None:
            raise WrongLineError(f"there is no command '{' '.join(words[: place + 1])}'")
        command = inner
    if isinstance(command, TyperGroup):
        raise WrongLineError(f"'{' '.join(words)}' is a group: it needs a command")
    return command, []


def parse_command(line: str) -> None:
    """Parse a whole line as the command line would, without running it."""
    command, arguments = find_command(shlex.split(line, comments=True)[1:])
    try:
        command.make_context("visolo", arguments)
    except Exception as error:  # usage errors have no public class of their own
        raise WrongLineError(f"{line}: {error}") from error


def check_options(span: str) -> None:
    """A command in the text may omit arguments, but every option it names must exist."""
    words = shlex.split(span)[1:]
    if not words or words[0].startswith("-"):
        return
    command, arguments = find_command(words)
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    for word in arguments:
        if word.startswith("-") and word != "-" and word not in known:
            raise WrongLineError(f"{span}: there is no option {word}")


class _ParsedError(Exception):
    """Raised instead of running a script, once its options are parsed."""


def parse_script(line: str, patch: pytest.MonkeyPatch) -> None:
    """Let a script parse its own options, and stop it there."""
    _, script, *arguments = shlex.split(line, comments=True)
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(parser, *arguments)
        raise _ParsedError

    patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    patch.setattr(sys, "argv", [script, *arguments])
    if not (ROOT / script).is_file():
        raise WrongLineError(f"there is no script {script}")
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except _ParsedError:
        return
    except SystemExit as error:
        raise WrongLineError(f"{line} does not parse") from error
    raise WrongLineError(f"{script} reads no options")


def check_target(name: str) -> None:
    """A target of the Makefile."""
    if name not in re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE):
        raise WrongLineError(f"make {name}: there is no such target")


def check_name(dotted: str) -> None:
    """A module, or a name in one."""
    words = dotted.split(".")
    value: Any = importlib.import_module(words[0])
    for place, word in enumerate(words[1:], start=1):
        try:
            value = getattr(value, word)
        except AttributeError:
            try:
                value = importlib.import_module(".".join(words[: place + 1]))
            except ModuleNotFoundError as error:
                raise WrongLineError(f"there is no {dotted}") from error


# ----------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("line", lines("visolo"))
def test_commands_parse(line: str) -> None:
    parse_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "visolo nonsense",
        "visolo data nonsense",
        "visolo data",
        "visolo data synth shapes --nonsense",
        "visolo data synth shapes --videos many",
        "visolo data split instances.json",
        "visolo run model.visolo",
        "visolo run model.visolo video.mp4 --rebuild",
        "visolo run model.visolo video.mp4 --live",
    ],
)
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    with pytest.raises(WrongLineError):
        parse_command(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    for span in spans(page):
        if span.startswith("visolo ") or span == "visolo":
            check_options(span)


@pytest.mark.parametrize(
    "span", ["visolo nonsense", "visolo data nonsense X", "visolo run --rebuild"]
)
def test_a_wrong_command_in_the_text_would_be_noticed(span: str) -> None:
    with pytest.raises(WrongLineError):
        check_options(span)


def test_every_command_is_documented() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert f"`visolo {name}" in readme


def script_lines() -> list[Any]:
    inline = [
        pytest.param(span, id=f"{page.name}: {span}")
        for page in PAGES
        for span in spans(page)
        if span.startswith("python ")
    ]
    return [*lines("python"), *inline]


@pytest.mark.parametrize("line", script_lines())
def test_scripts_parse(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_script(line, monkeypatch)


@pytest.mark.parametrize(
    "line",
    [
        "python benchmarks/nonsense.py",
        "python benchmarks/fps.py model.visolo --nonsense",
        "python benchmarks/fps.py",
    ],
)
def test_a_wrong_script_would_be_noticed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongLineError):
        parse_script(line, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    code = [*spans(page), *(line for each in blocks(page, "") for line in each.splitlines())]
    for line in code:
        if match := re.match(r"make ([\w-]+)", line):
            check_target(match[1])


def test_a_wrong_target_would_be_noticed() -> None:
    check_target("demo")
    with pytest.raises(WrongLineError):
        check_target("nonsense")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a video and a frame, in which the Python of the pages runs."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(shipped_model(), folder / "model.visolo")
    write_video(folder / "video.mp4", frames=6)
    shutil.copy(ROOT / "docs/images/demo.jpg", folder / "frame.jpg")
    return folder


@pytest.mark.parametrize("block", python_blocks())
def test_python_runs(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(block, "page", "exec"), {"__name__": "page"})


def test_the_example_of_a_client_watches_a_server(folder: Path) -> None:
    (block,) = blocks(ROOT / "docs/serve-protocol.md", "python")
    printed = io.StringIO()
    with serving(load("shapes")) as served:
        served.hub.add(open_source(str(folder / "video.mp4"))[0], policy="all")
        with redirect_stdout(printed):
            exec(block.replace(SERVER, served.address), {})
    assert re.search(r"^0\.\d+ \d+ \d 0\.\d+ \(.*\) \(\d+, \d+\)$", printed.getvalue(), re.M)


def test_the_first_example_prints_instances(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(blocks(ROOT / "README.md", "python")[0].replace("everyday", "shapes"), {})
    assert re.search(r"^\d+ disc 0\.\d+ \(.*\) \(96, 160\)$", capsys.readouterr().out, re.M)


def write_photos(folder: Path, name: str, pictures: str, seed: int, count: int) -> None:
    """Frames of a drawn clip as photos in a folder, and a json in COCO's format for them."""
    clip = draw_clip(seed, 0, count, 64, 96)
    images, annotations = [], list[dict[str, Any]]()
    (folder / pictures).mkdir()
    for at, frame in enumerate(clip.frames):
        file_name = f"{Path(name).stem}{at}.png"
        Image.fromarray(frame).save(folder / pictures / file_name)
        images.append({"id": at, "file_name": file_name, "height": 64, "width": 96})
        for category, mask in zip(clip.category_ids, clip.masks[at], strict=True):
            entry = {"id": len(annotations), "image_id": at, "category_id": category}
            if mask.any():
                annotations.append(entry | {"segmentation": encode_rle(mask)})
    categories = [{"id": i, "name": n} for i, n in zip(SHAPES.ids, SHAPES.names, strict=True)]
    document = {"images": images, "categories": categories, "annotations": annotations}
    (folder / name).write_text(json.dumps(document))


def test_the_afternoon_goes_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the page, in its order, on drawn things at a small size. What ``import``
    would write is there already."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path, "table.json", "labelled", seed=3, count=6)
    write_photos(tmp_path, "later.json", "later", seed=3, count=2)
    write_video(tmp_path / "video.mp4", frames=2)
    small = [
        "network.input_size=[64,96]", "network.grid=[4,6]", "schedule.steps=2", "run.threads=1",
        "run.tensorboard=false", "run.device=cpu", "run.workers=0",
    ]  # fmt: skip
    words = [
        shlex.split(line)[1:]
        for block in blocks(ROOT / "docs/your-own-classes.md", "")
        for line in block.splitlines()
    ]
    done = []
    threads = torch.get_num_threads()
    for command, *arguments in words:
        if (command, arguments[0]) == ("data", "import"):
            continue
        if (command, arguments[0]) == ("data", "frames"):  # the labelled ones are there already
            arguments = ["frames" if each == "labelled" else each for each in arguments]
        changes = [part for each in small for part in ("--set", each)]
        run_visolo(command, *arguments, *(changes if command == "train" else [])).succeeded()
        done.append(command)
    torch.set_num_threads(threads)
    assert done == ["data", "data", "train", "export", "eval", "run", "train"]
    assert (tmp_path / "frames" / "frame_000000.png").exists()
    assert (tmp_path / "annotated.mp4").stat().st_size > 1000
    assert Bundle(tmp_path / "table.visolo").manifest.labels.name == "table"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blank_lines_surround_tables_and_precede_lists(page: Path) -> None:
    """GitHub recognises tables and lists without them; Python's Markdown, which builds the site,
    does not."""
    prose = re.sub(r"^```.*?^```$", "```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    pairs = pairwise(prose.splitlines())
    assert [b for a, b in pairs if a and b and a.startswith("|") != b.startswith("|")] == []
    pairs = pairwise(prose.splitlines())
    assert [
        b for a, b in pairs if b.startswith("- ") and a and not a.startswith(("- ", "  ", "#"))
    ] == []


def missing_links(page: Path) -> list[str]:
    """Targets of links and pictures that do not exist."""
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    return [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert missing_links(page) == []


def test_a_dead_link_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("![here](page.md) [there](nowhere.md#part) [far](https://example.org)")
    assert missing_links(page) == ["nowhere.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_tests_and_modules_exist(page: Path) -> None:
    for span in spans(page):
        if match := re.fullmatch(r"((?:benchmarks|examples|tests)/[\w/.]+)(?:::(\w+))?", span):
            path, name = ROOT / match[1], match[2]
            assert path.exists(), span
            assert name is None or f"def {name}(" in path.read_text(), span
        elif re.fullmatch(r"visolo(?:_\w+)?(?:\.\w+)+", span):
            check_name(span)


def test_a_wrong_name_would_be_noticed() -> None:
    check_name("visolo_runtime.bundle.Manifest")
    with pytest.raises(WrongLineError):
        check_name("visolo_runtime.bundle.nonsense")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_named_extras_exist(page: Path) -> None:
    for name, extras in re.findall(r"\b(visolo(?:-gpu)?|\.)\[([\w,]+)\]", page.read_text()):
        known = dependencies("visolo" if name == "." else name)[1]
        assert set(extras.split(",")) <= set(known), f"{name}[{extras}]"


def test_the_page_shows_what_doctor_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a machine on which all is right; no such machine was at hand."""
    (block,) = blocks(ROOT / "docs/tensorrt.md", "text")
    gpu = Gpu("NVIDIA GeForce RTX 4070", "sm89", 12_282_000_000)
    versions: dict[str, str | None] = {
        "visolo-gpu": "0.1.0",
        "tensorrt-cu13": "10.16.1.11",
        "pycuda": "2026.1",
        "onnxruntime-gpu": "1.31.1",
    }
    providers = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    diagnosis = Diagnosis(
        Computer("Linux", "x86_64", 16, "3.12.3"),
        DriverCheck(Driver((13, 0), (gpu,))),
        versions,
        {
            "tensorrt": BackendCheck(True, f"10.16.1.11, {gpu.name}, {gpu.architecture}"),
            "onnxruntime": BackendCheck(True, "ONNX Runtime 1.31.1", providers),
        },
        (),
    )
    print_diagnosis(diagnosis)
    assert capsys.readouterr().out.partition("\n\n")[2] == block


def test_the_page_quotes_what_doctor_says() -> None:
    """The first column of the table of problems."""
    engines = ROOT / "runtime/visolo_runtime/engines"
    files = [ROOT / "runtime/visolo_runtime/installation.py", engines / "nvidia.py"]
    files += [engines / "onnxruntime/libraries.py", engines / "tensorrt/library.py"]
    files += [engines / "tensorrt/device.py"]
    said = re.sub(r'"\s*f?"', "", "".join(file.read_text() for file in files))
    table = (ROOT / "docs/tensorrt.md").read_text().partition("| `doctor` says |")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert len(rows) > 10
    for row in rows:
        for quote in re.findall(r"`([^`]+)`", row.split("|")[1]):
            assert quote in said, quote
