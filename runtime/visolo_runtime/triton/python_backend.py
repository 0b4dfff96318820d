"""What Triton's Python backend calls: tensors in, tensors out, and sequences in between.

``model.py`` of a model repository is this class and Triton's module, which exists only inside of
Triton's own process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from visolo_core.errors import VisoloError
from visolo_runtime.session.loading import load
from visolo_runtime.triton.messages import (
    REQUEST_TENSORS,
    Answer,
    Request,
    answer_tensors,
    read_request,
)
from visolo_runtime.triton.sequences import Sequences

BUNDLE = "model.visolo"
"""The bundle in the folder of a version."""
START, END = "START", "END"
"""Triton's control tensors."""


class PythonBackendModel:
    """One replica: Triton makes one in each instance's process.

    A class that derives from it sets :attr:`utils`.
    """

    utils: ClassVar[Any]
    """Triton's module ``triton_python_backend_utils``."""
    _sequences: Sequences

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle.

        Args:
            args: as Triton gives them, the model's configuration among them.

        Raises:
            TritonModelException: if it cannot be opened; Triton shows the sentence.
        """
        try:
            self._sequences = _opened(args)
        except VisoloError as error:
            raise self.utils.TritonModelException(str(error)) from error

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer one request of each of some sequences, which are stepped together.

        Args:
            requests: Triton's.

        Returns:
            Triton's responses in the same order; one that is refused has the sentence as its error.
        """
        answers = self._sequences.step([self._read(each) for each in requests])
        return [
            self._response(request, answer)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def finalize(self) -> None:
        """End all sequences; Triton unloads the model."""
        self._sequences.close()

    def _read(self, request: Any) -> Request:
        given = {
            spec.name: tensor.as_numpy()
            for spec in REQUEST_TENSORS
            if (tensor := self.utils.get_input_tensor_by_name(request, spec.name)) is not None
        }
        start, end = self._is_set(request, START), self._is_set(request, END)
        return read_request(request.correlation_id(), start, end, given)

    def _is_set(self, request: Any, control: str) -> bool:
        return bool(self.utils.get_input_tensor_by_name(request, control).as_numpy().any())

    def _response(self, request: Any, answer: Answer | VisoloError) -> Any:
        utils = self.utils
        if isinstance(answer, VisoloError):
            error = utils.TritonError(str(answer), utils.TritonError.INVALID_ARG)
            return utils.InferenceResponse(output_tensors=[], error=error)
        tensors = answer_tensors(answer, request.requested_output_names())
        return utils.InferenceResponse(
            output_tensors=[utils.Tensor(name, values) for name, values in tensors.items()]
        )


def _opened(args: Mapping[str, str]) -> Sequences:
    """The sequences of a replica as its configuration says.

    Raises:
        VisoloError: if the bundle is missing or cannot be run, or a parameter is wrong.
    """
    config = json.loads(args["model_config"])
    given = {name: each["string_value"] for name, each in config.get("parameters", {}).items()}
    device = given.get("device", "")
    if args["model_instance_kind"] == "GPU":
        device = f"cuda:{args['model_instance_device_id']}"
    bundle = Path(args["model_repository"]) / args["model_version"] / BUNDLE
    if not bundle.is_dir():
        raise VisoloError(f"there is no bundle '{bundle}': write the repository again")
    model = load(
        bundle,
        given.get("backend", "auto"),
        threads=_count(given, "threads", 0),
        precision=given.get("precision", ""),
        device=device,
    )
    idle_us = int(config["sequence_batching"]["max_sequence_idle_microseconds"])
    return Sequences(model, _count(given, "streams", 1), idle_us / 1e6)


def _count(given: Mapping[str, str], name: str, least: int) -> int:
    text = given.get(name, "")
    if not (text.isdecimal() and int(text) >= least):
        raise VisoloError(
            f"parameter '{name}' in config.pbtxt must be a number from {least} on, not '{text}'"
        )
    return int(text)
