"""The ``visolo`` command: mounts the commands of all rooms by name, and imports one when called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from visolo_core.errors import VisoloError

# name: where the function is, and what it does
COMMANDS = {
    "run": ("visolo.commands.run:run", "Track instances in a video with a model."),
    "bench": ("visolo.commands.bench:bench", "Measure speed, of one model or of two."),
    "demo": ("visolo.commands.demo:demo", "Show the shipped small model at work."),
    "info": ("visolo.commands.info:info", "Describe a bundle or a weights file."),
    "doctor": ("visolo.commands.doctor:doctor", "Report what this machine can run."),
    "convert": (
        "visolo.commands.convert:convert",
        "Turn an official checkpoint into visolo weights.",
    ),
    "export": ("visolo.commands.export:export", "Turn weights into a bundle of graphs."),
    "rebuild": (
        "visolo.commands.rebuild:rebuild",
        "Build a bundle's TensorRT engines again, for this machine.",
    ),
    "train": ("visolo.commands.train:train", "Train a network by a recipe."),
    "data": ("visolo.commands.data:data_tools", "Tools for data sets."),
    "eval": ("visolo.commands.eval:evaluate", "Average precision of a model on a data set."),
    "score": ("visolo.commands.score:score", "Average precision of a results file."),
    "verify": (
        "visolo.commands.verify:verify",
        "Verify that two forms of a model compute the same.",
    ),
}
EXIT_WRONG_INPUT = 2
# Packages that only some commands need, and the extra that installs each.
_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "onnx", "onnxscript", "safetensors"), "export"),
    "tensorboard": "train",
    "trackeval": "identity",
    "openvino": "openvino",
    "tensorrt_rtx": "rtx",
}


class _Rooms(TyperGroup):
    """A group whose commands are imported when they are called, not when they are listed."""

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
    cls=_Rooms,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from visolo_core import __version__

        typer.echo(f"visolo {__version__}")
        raise typer.Exit


@app.callback()
def visolo(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
) -> None:
    """Real-time video instance segmentation with VISOLO: train, export, run, prove.

    Exit status: 0 done, 1 a check failed, 2 wrong use or input.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``visolo`` command."""
    try:
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
        # What no command foresaw of disks and pipes is still the user's to know in a sentence.
        where = f"'{error.filename}': " if error.filename else ""
        _fail(f"{where}{(error.strerror or str(error)).lower()}")


def _fail(sentence: str) -> None:
    print(f"visolo: {sentence}", file=sys.stderr)
    raise SystemExit(EXIT_WRONG_INPUT)


if __name__ == "__main__":
    main()
