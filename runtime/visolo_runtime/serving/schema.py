"""The bodies of the API's requests, and its description in OpenAPI's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

JSON = "application/json"
STREAM_NAME = "[A-Za-z][A-Za-z0-9._-]{0,63}"
"""Of a stream: never a number."""

_STREAM = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{STREAM_NAME}$"}]
}


class AddStream(BaseModel):
    """What begins a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)
    source: str = Field(min_length=1, max_length=2000)
    name: str = Field(default="", max_length=64, pattern=f"^({STREAM_NAME})?$")
    """By which it is found; one that is there is not begun again."""
    lease_s: float | None = Field(default=None, ge=1, le=86400, allow_inf_nan=False)
    """Seconds after which it ends unless it is asked for again."""


class ChangeStream(BaseModel):
    """What may be set of a stream; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)
    paused: bool | None = None
    least_score: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    classes: list[str] | None = Field(default=None, max_length=1000)
    """Names; an empty list means all."""


def openapi(version: str, classes: Sequence[str]) -> dict[str, Any]:
    """The API in OpenAPI 3.1.

    Args:
        version: of this package.
        classes: names of the model's classes.
    """
    stream = [_parameter("stream", "path", _STREAM, True)]
    overlay = [_parameter("overlay", "query", {"type": "string", "enum": ["0", "1"]}, False)]
    paths: dict[str, Any] = {
        "/api/model": {"get": _answer("The model, its classes and its backend")},
        "/api/streams": {
            "get": _answer("All streams"),
            "post": _answer("Begin a stream of a source that the server allows", AddStream, 201),
        },
        "/api/streams/{stream}": {
            "get": _answer("One stream"),
            "patch": _answer("Change what is passed on of a stream", ChangeStream),
            "delete": _answer("End a stream", status=204),
        },
        "/api/streams/{stream}/snapshot": {
            "get": _answer("The newest frame", media="image/jpeg"),
        },
        "/api/streams/{stream}/recording": {
            "get": _answer("The stream's recording"),
            "post": _answer("Begin to record", status=201),
            "delete": _answer("Stop recording"),
        },
        "/api/videos": {"post": _answer("Track a short video: the body is its file")},
        "/api/health": {"get": _answer("Whether the server works")},
        "/api/ready": {"get": _answer("Whether it can take another stream")},
        "/metrics": {"get": _answer("Measurements in Prometheus's format", media="text/plain")},
    }
    for path, methods in paths.items():
        if "{stream}" in path:
            for method in methods.values():
                method["parameters"] = list(stream)
    change = paths["/api/streams/{stream}"]["patch"]["requestBody"]["content"][JSON]["schema"]
    for kind in change["properties"]["classes"]["anyOf"]:
        if kind.get("type") == "array":
            kind["items"] = {"type": "string", "enum": list(classes)}
    paths["/api/streams/{stream}/snapshot"]["get"]["parameters"] += overlay
    paths["/api/videos"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "visolo serve", "version": version},
        "paths": paths,
        "components": {
            "schemas": {
                "Problem": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _parameter(name: str, place: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _answer(
    summary: str, body: type[BaseModel] | None = None, status: int = 200, media: str = JSON
) -> dict[str, Any]:
    content = {media: {"schema": {} if media == JSON else {"type": "string"}}}
    done: dict[str, Any] = {"description": "Done"}
    if status != 204:
        done["content"] = content
    problem = {JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            str(status): done,
            "default": {"description": "Why it cannot be done", "content": problem},
        },
    }
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": body.model_json_schema()}},
        }
    return operation
