"""Checkpoints: ours, which carry configuration and labels, and the official ones.

Ours is a ``.safetensors`` file, or a ``.pt`` file of tensors and one string that
``torch.load(weights_only=True)`` reads. Nothing here ever runs code out of a file.
"""

from __future__ import annotations

import json
import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visolo_core.categories import LabelSet
from visolo_core.config import PAPER, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import reason, replaced
from visolo_core.official import ALIAS_PREFIX, CLASSIFIER, PREFIX, official_name

if TYPE_CHECKING:
    from torch import Tensor

    from visolo_core.nn import Visolo

FORMAT_VERSION = 1
METADATA_KEY = "visolo"
SAFETENSORS = ".safetensors"
_OFFICIAL_CLASSIFIER_WEIGHT = official_name(f"{CLASSIFIER}.weight")
_LISTED = 20  # names in a message before it says how many more


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself."""

    config: ModelConfig
    labels: LabelSet

    def to_json(self) -> str:
        """The header as it stands in the file."""
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "config": asdict(self.config),
                "labels": asdict(self.labels),
            }
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> CheckpointHeader:
        """Read a header.

        Raises:
            VisoloError: if it is of a later version or not whole.
        """
        try:
            fields = json.loads(text)
            version = fields["format_version"]
            if version != FORMAT_VERSION:
                raise VisoloError(
                    f"'{path}' has checkpoint format {version}, this visolo reads "
                    f"{FORMAT_VERSION}: update visolo, or convert the weights again"
                )
            config, labels = fields["config"], fields["labels"]
            for name in ("grid", "input_size"):
                config[name] = tuple(config[name])
            header = cls(
                ModelConfig(**config),
                LabelSet(labels["name"], tuple(labels["ids"]), tuple(labels["names"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise VisoloError(f"'{path}' has a damaged checkpoint header: {error}") from error
        if len(header.labels) != header.config.classes:
            raise VisoloError(
                f"'{path}' names {len(header.labels)} labels for {header.config.classes} classes"
            )
        return header


@dataclass(frozen=True)
class Checkpoint:
    """Weights with all that is needed to use them."""

    header: CheckpointHeader
    state: dict[str, Tensor]
    """Parameters and buffers by our names."""

    def build(self) -> Visolo:
        """The network with these weights, in evaluation mode."""
        from visolo_core.nn import Visolo

        model = Visolo(self.header.config)
        model.load_state_dict(self.state)
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; ``.safetensors`` or ``.pt`` by the name's ending.

    Raises:
        VisoloError: if the ending is another, or the file cannot be written.
    """
    header = checkpoint.header.to_json()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    if path.suffix == SAFETENSORS:
        from safetensors.torch import save_file

        with replaced(path) as temporary:
            save_file(state, temporary, metadata={METADATA_KEY: header})
    elif path.suffix in (".pt", ".pth"):
        import torch

        with replaced(path) as temporary:
            torch.save({METADATA_KEY: header, "model": state}, temporary)
    else:
        raise VisoloError(f"'{path}' must end in .safetensors or .pt to say how weights are stored")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one of our checkpoints, whole and checked.

    Raises:
        VisoloError: if it is missing, damaged, official, or does not fit its own configuration.
    """
    if path.suffix == SAFETENSORS:
        header = read_header(path)
        state = _read_safetensors(path)
    else:
        loaded = _load_tensors(path)
        if METADATA_KEY not in loaded:
            if "model" in loaded:
                raise VisoloError(
                    f"'{path}' is not a visolo checkpoint; if it is an official one, "
                    f"run: visolo convert {path} -o weights.safetensors"
                )
            raise VisoloError(f"'{path}' holds no visolo weights")
        header = CheckpointHeader.from_json(str(loaded[METADATA_KEY]), path)
        state = loaded["model"]
    _check_state(state, expected_shapes(header.config), path)
    return Checkpoint(header, state)


def read_header(path: Path) -> CheckpointHeader:
    """The header of one of our ``.safetensors`` files, without PyTorch and without the weights.

    Raises:
        VisoloError: if the file is missing, damaged or has no header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("it is cut short")
            metadata = json.loads(file.read(length)).get("__metadata__") or {}
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except (ValueError, struct.error, AttributeError) as error:
        raise VisoloError(f"'{path}' is not a whole safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        raise VisoloError(f"'{path}' is a safetensors file, but not of visolo: it has no header")
    return CheckpointHeader.from_json(metadata[METADATA_KEY], path)


def is_weights_file(path: Path) -> bool:
    """Whether a name is that of a checkpoint."""
    return path.suffix in (SAFETENSORS, ".pt", ".pth")


def load_official(
    path: Path, labels: LabelSet | None, new_classifier: bool = False
) -> tuple[Checkpoint, str | None]:
    """Read an official checkpoint, ``{"model": {333 parameters and 24 aliases}, ...}``.

    Args:
        path: the ``.pth`` file.
        labels: its label set; None takes the data set with as many classes.
        new_classifier: begin a new classifier for ``labels``, to fine-tune from a checkpoint of
            another class count; everything else is kept.

    Returns:
        the checkpoint, and what was done to its classifier if anything was.

    Raises:
        VisoloError: if the file is missing, damaged, holds code, or its keys, shapes or class
            count are not what they must be.
    """
    from visolo_core.categories import labels_for_class_count

    loaded = _load_tensors(path)
    weights = loaded.get("model")
    if METADATA_KEY in loaded:
        raise VisoloError(f"'{path}' is a visolo checkpoint already: use it as it is")
    if not isinstance(weights, Mapping) or not weights:
        raise VisoloError(f"'{path}' is no official checkpoint: it has no 'model' with parameters")
    # Some are saved from the bare network, without the prefix that the others bear.
    if not any(name.startswith(PREFIX) for name in weights):
        weights = {PREFIX + name: tensor for name, tensor in weights.items()}
    weights = {
        name: tensor for name, tensor in weights.items() if not name.startswith(ALIAS_PREFIX)
    }

    classifier = weights.get(_OFFICIAL_CLASSIFIER_WEIGHT)
    if classifier is None or getattr(classifier, "ndim", 0) != 4:
        raise VisoloError(f"'{path}' has no classifier '{_OFFICIAL_CLASSIFIER_WEIGHT}'")
    config = PAPER.with_classes(classifier.shape[0])
    shapes = {official_name(name): shape for name, shape in expected_shapes(config).items()}
    _check_state(weights, shapes, path)
    state = {name: weights[official_name(name)] for name in expected_shapes(config)}

    labels = labels or labels_for_class_count(config.classes)
    if new_classifier:
        config, said = _begin_classifier(state, config, labels)
        return Checkpoint(CheckpointHeader(config, labels), state), said
    if len(labels) != config.classes:
        raise VisoloError(
            f"'{path}' has {config.classes} classes but label set '{labels.name}' has "
            f"{len(labels)}: name the right --labels, or pass --new-classifier to fine-tune"
        )
    return Checkpoint(CheckpointHeader(config, labels), state), None


def _begin_classifier(
    state: dict[str, Tensor], config: ModelConfig, labels: LabelSet
) -> tuple[ModelConfig, str]:
    import torch

    from visolo_core.nn.initialise import initialise_classifier

    fresh = torch.nn.Conv2d(config.width, len(labels), 3, padding=1)
    initialise_classifier(fresh)
    state[f"{CLASSIFIER}.weight"] = fresh.weight.detach()
    state[f"{CLASSIFIER}.bias"] = fresh.bias.detach()  # type: ignore[union-attr]
    return config.with_classes(len(labels)), (
        f"the classifier ({config.classes} classes) was begun anew for {len(labels)} classes of "
        f"'{labels.name}'; all other weights are kept. Train before use."
    )


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter and buffer of a network, by our names."""
    import torch

    from visolo_core.nn import Visolo

    with torch.device("meta"):
        state = Visolo(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _check_state(
    state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Raise with every wrong key by name."""
    complaints = []
    missing = [name for name in shapes if name not in state]
    extra = [name for name in state if name not in shapes]
    misshaped = [
        f"{name} ({_shape_of(state[name])} instead of {_written(shape)})"
        for name, shape in shapes.items()
        if name in state and tuple(getattr(state[name], "shape", ())) != shape
    ]
    for names, kind in ((missing, "missing"), (extra, "unknown"), (misshaped, "misshaped")):
        if names:
            complaints.append(f"{len(names)} {kind}: {_listed(names)}")
    if complaints:
        raise VisoloError(f"'{path}' does not fit the network: {'; '.join(complaints)}")


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _shape_of(value: Any) -> str:
    return _written(value.shape) if hasattr(value, "shape") else type(value).__name__


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise VisoloError(f"'{path}' is damaged or cut short: {error}") from error


def _load_tensors(path: Path) -> dict[str, Any]:
    """The dictionary in a file of torch.save, tensors and plain values only."""
    import torch

    try:
        with warnings.catch_warnings():
            # PyTorch wonders aloud about pickles that it then refuses.
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except pickle.UnpicklingError as error:
        raise VisoloError(
            f"'{path}' was not opened, since it holds more than tensors or is no checkpoint: "
            f"{_first_sentence(error)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise VisoloError(f"'{path}' is no checkpoint, or is damaged or cut short") from error
    if not isinstance(loaded, dict):
        raise VisoloError(f"'{path}' is no checkpoint: it holds a {type(loaded).__name__}")
    return loaded


def _first_sentence(error: Exception) -> str:
    """The telling part of PyTorch's long messages."""
    text = " ".join(str(error).split()) or type(error).__name__
    for mark in ("WeightsUnpickler error: ", "PytorchStreamReader "):
        text = text.partition(mark)[2] or text
    return text.split(". ")[0].split(" Please ")[0].strip()[:200]
