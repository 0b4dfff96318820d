"""The ``visolo`` command: lists every command by name, and imports one only when it is called."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from visolo_core.errors import VisoloError

# name: where its function is, and its summary
COMMANDS = {
    "run": ("visolo.commands.run:run", "Track instances in a video with a model."),
    "bulk": ("visolo.commands.bulk:bulk", "Track instances in many recordings, each once."),
    "serve": ("visolo.commands.serve:serve", "Track streams on a page in the browser."),
    "bench": ("visolo.commands.bench:bench", "Measure the speed of one model or two."),
    "demo": ("visolo.commands.demo:demo", "Run the models in the package."),
    "web": ("visolo.commands.web:web", "Write a page that runs a model in the browser."),
    "info": ("visolo.commands.info:info", "Show what a bundle or a weights file contains."),
    "doctor": ("visolo.commands.doctor:doctor", "Check what this machine can run."),
    "convert": (
        "visolo.commands.convert:convert",
        "Convert an official checkpoint to visolo weights.",
    ),
    "export": ("visolo.commands.export:export", "Export weights as a bundle of graphs."),
    "triton": (
        "visolo.commands.triton:triton",
        "Write a bundle into a model repository for NVIDIA Triton.",
    ),
    "rebuild": (
        "visolo.commands.rebuild:rebuild",
        "Rebuild a bundle's TensorRT engines for this machine.",
    ),
    "push": ("visolo.commands.push:push", "Put a bundle on the Hugging Face Hub."),
    "train": ("visolo.commands.train:train", "Train a network from a recipe."),
    "data": ("visolo.commands.data:data_tools", "Check, relabel, split and draw data sets."),
    "eval": ("visolo.commands.eval:evaluate", "Score a model on a data set."),
    "score": ("visolo.commands.score:score", "Score a results file."),
    "verify": (
        "visolo.commands.verify:verify",
        "Check that two forms of a model compute the same.",
    ),
}
EXIT_WRONG_INPUT = 2
# Packages that only some commands need, and the extra that installs them.
_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "onnx", "onnxscript", "safetensors"), "export"),
    "tensorboard": "train",
    "trackeval": "identity",
    "openvino": "openvino",
    "tensorrt_rtx": "rtx",
}


class _LazyGroup(TyperGroup):
    """A group that imports a command when it is called, not when it is listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        target = getattr(import_module(module), name)
        if isinstance(target, typer.Typer):  # a group of commands
            return typer.main.get_command(target)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name)(target)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


app = typer.Typer(
    cls=_LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from visolo_core import __version__

        typer.echo(f"visolo {__version__}")
        raise typer.Exit


@app.callback()
def visolo(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    """Real-time video instance segmentation with VISOLO: train, export, verify, run.

    Exit status: 0 done, 1 a check or part of the work failed, 2 wrong use or input, 130
    interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``visolo`` command."""
    from visolo_runtime.stop_flag import cleaning_up

    _print_anything()
    try:
        with cleaning_up():
            app(arguments, prog_name="visolo")
    except VisoloError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        from visolo_core.distribution import pip_install

        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}: run {pip_install(extra)}")
    except OSError as error:
        # An error of a disk or a pipe that no command handled is still reported in one sentence.
        where = f"'{error.filename}': " if error.filename else ""
        _fail(f"{where}{(error.strerror or str(error)).lower()}")


def _print_anything() -> None:
    """Let a character that the terminal does not have become a question mark, and not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(sentence: str) -> None:
    with suppress(OSError):  # the terminal may be closed
        print(f"visolo: {sentence}", file=sys.stderr)
    raise SystemExit(EXIT_WRONG_INPUT)


if __name__ == "__main__":
    main()
