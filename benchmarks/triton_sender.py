"""Sends frames to a model that ``visolo triton`` wrote, by the client library of Triton."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.triton_server import TritonServer
from visolo_runtime.triton.messages import ANSWER_TENSORS
from visolo_runtime.video.frames import Picture

Tensors = dict[str, NDArray[Any]]
ANSWERED = tuple(spec.name for spec in ANSWER_TENSORS)


class Sender:
    """Sends frames of sequences to a server.

    Args:
        server: a running one.
        model: its name.
        transport: ``grpc`` or ``http``.

    Raises:
        ModuleNotFoundError: if tritonclient is not installed.
    """

    def __init__(self, server: TritonServer, model: str, transport: str = "grpc") -> None:
        self._model = model
        self._library = import_module(f"tritonclient.{transport}")
        address = server.grpc if transport == "grpc" else server.http
        self._client = self._library.InferenceServerClient(address)

    def send(
        self,
        sequence: int | str,
        frame: Picture | bytes | None = None,
        start: bool = False,
        end: bool = False,
        settings: str | None = None,
    ) -> Tensors:
        """The answer to one request.

        Raises:
            InferenceServerException: with the sentence, if it is refused.
        """
        inputs = []
        if isinstance(frame, bytes):
            inputs.append(self._text("jpeg", frame))
        elif frame is not None:
            inputs.append(self._library.InferInput("image", [1, *frame.shape], "UINT8"))
            inputs[0].set_data_from_numpy(frame[None])
        if settings is not None:
            inputs.append(self._text("settings", settings.encode()))
        answer = self._client.infer(
            self._model, inputs, sequence_id=sequence, sequence_start=start, sequence_end=end
        )
        return {name: answer.as_numpy(name) for name in ANSWERED}

    def refusal(self, *arguments: Any, **named: Any) -> str:
        """The sentence with which a request is refused; empty if it is not."""
        from tritonclient.utils import InferenceServerException

        try:
            self.send(*arguments, **named)
        except InferenceServerException as error:
            return str(error.message())
        return ""

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _text(self, name: str, value: bytes) -> Any:
        tensor = self._library.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[value]], np.object_))
        return tensor
