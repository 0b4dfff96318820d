"""What Triton's Python backend gives to a model, in a few classes: tensors, requests, responses.

A model file is loaded and called as Triton does it, but in this process.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODULE = "triton_python_backend_utils"


class TritonModelException(Exception):
    """What a model raises that cannot be loaded."""


class TritonError:
    """Why a request is refused."""

    INVALID_ARG = 3

    def __init__(self, text: str, code: int = 0) -> None:
        self._text, self._code = text, code

    def message(self) -> str:
        return self._text

    def code(self) -> int:
        return self._code


@dataclass(frozen=True)
class Tensor:
    """A tensor by name."""

    named: str
    values: NDArray[Any]

    def name(self) -> str:
        return self.named

    def as_numpy(self) -> NDArray[Any]:
        return self.values


@dataclass(frozen=True)
class InferenceResponse:
    """What a request gets."""

    output_tensors: list[Tensor]
    error: TritonError | None = None


@dataclass(frozen=True)
class InferenceRequest:
    """A request as the sequence batcher hands it on."""

    sequence: int | str
    start: bool = False
    end: bool = False
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    """names that the client asked for; None means all"""

    def correlation_id(self) -> int | str:
        return self.sequence

    def requested_output_names(self) -> list[str]:
        assert self.outputs is not None
        return list(self.outputs)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """A tensor of a request, or a control."""
    controls = {"START": request.start, "END": request.end}
    if name in controls:
        return Tensor(name, np.array([[controls[name]]], np.int32))
    return Tensor(name, request.tensors[name]) if name in request.tensors else None


def frame_of(image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The tensors of a request with a picture."""
    return {"image": image[None]}


def text_of(name: str, value: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a request with a text or a file."""
    return {name: np.array([[value]], np.object_)}


def parsed(config: str) -> dict[str, Any]:
    """A configuration in protobuf's text format, as far as ours uses it, as Triton's json has it.

    A field that comes several times, or holds a list, becomes a list.
    """
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[\w.+-]+', re.sub(r"#[^\n]*", "", config))
    message, rest = _message(tokens, 0)
    assert rest == len(tokens)
    return message


def _message(tokens: list[str], at: int) -> tuple[dict[str, Any], int]:
    message: dict[str, Any] = {}
    while at < len(tokens) and tokens[at] != "}":
        name = tokens[at]
        message[name], at = _value(tokens, at + 1)
    return message, at


def _value(tokens: list[str], at: int) -> tuple[Any, int]:
    if tokens[at] == "{":
        message, at = _message(tokens, at + 1)
        return message, at + 1
    if tokens[at] == "[":
        items, at = list[Any](), at + 1
        while tokens[at] != "]":
            item, at = _value(tokens, at)
            items.append(item)
        return items, at + 1
    return json.loads(tokens[at]) if re.match(r'["\d-]', tokens[at]) else tokens[at], at + 1


@dataclass
class Replica:
    """A model of a repository, as Triton runs it."""

    folder: Path
    kind: str = "CPU"
    device_id: int = 0

    def __post_init__(self) -> None:
        config = parsed((self.folder / "config.pbtxt").read_text())
        self.config = config
        config["parameters"] = {each["key"]: each["value"] for each in config["parameters"]}
        self.model = _model_class(self.folder / "1" / "model.py")()
        self.model.initialize(
            {
                "model_config": json.dumps(config),
                "model_instance_kind": self.kind,
                "model_instance_name": f"{config['name']}_0_0",
                "model_instance_device_id": str(self.device_id),
                "model_repository": str(self.folder),
                "model_version": "1",
                "model_name": config["name"],
            }
        )

    def execute(self, *requests: InferenceRequest) -> list[InferenceResponse]:
        """What each request gets; never more of them than fit in a batch."""
        assert len(requests) <= self.config["max_batch_size"]
        every = tuple(each["name"] for each in self.config["output"])
        asked = [
            each if each.outputs is not None else replace(each, outputs=every) for each in requests
        ]
        responses: list[InferenceResponse] = self.model.execute(asked)
        assert len(responses) == len(requests)
        return responses

    def tensors(self, request: InferenceRequest) -> dict[str, NDArray[Any]]:
        """The tensors that a single request gets, which is not refused."""
        (response,) = self.execute(request)
        assert response.error is None, response.error.message()
        return {each.name(): each.as_numpy() for each in response.output_tensors}

    def refusal(self, request: InferenceRequest) -> str:
        """The sentence with which a single request is refused."""
        (response,) = self.execute(request)
        assert response.error is not None
        assert response.error.code() == TritonError.INVALID_ARG
        assert response.output_tensors == []
        return response.error.message()

    def finalize(self) -> None:
        """Unload it."""
        self.model.finalize()


def _model_class(path: Path) -> Any:
    """The class of a model's file, which finds Triton's module as in a model's own process."""
    module = ModuleType(MODULE)
    for each in (TritonModelException, TritonError, Tensor, InferenceResponse):
        setattr(module, each.__name__, each)
    module.get_input_tensor_by_name = get_input_tensor_by_name  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    try:
        spec.loader.exec_module(loaded)
    finally:
        del sys.modules[MODULE]
    return loaded.TritonPythonModel
