"""``/api/v1/openapi.json``: the paths of ``operations`` and the types of ``answers`` as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from promring import __version__
from promring.web.answers.base import Failure
from promring.web.operation import JSON, Operation, Parameter
from promring.web.operations import OPEN_METRICS, OPERATIONS, STREAM

Json = dict[str, object]
REF = "#/components/schemas/{name}"
WRITE_ERRORS = {
    401: "There is no token, or no user.",
    403: "The token is wrong, or promring runs without `--web.token-file`.",
}
SLICE_SCHEMA: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["targets"],
        "properties": {
            "targets": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}


def document(operations: Sequence[Operation] = OPERATIONS) -> Json:
    answers = [one.answer for one in operations if one.answer is not None]
    schemas, components = msgspec.json.schema_components([*answers, Failure], ref_template=REF)
    by_answer = {str(answer): schema for answer, schema in zip([*answers, Failure], schemas, strict=True)}
    paths: dict[str, Json] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, by_answer.get(str(one.answer)))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "promring",
            "version": __version__,
            "summary": "Which scraper has which target, and why.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "../.."}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The content of `--web.token-file`."},
                "user": {"type": "http", "scheme": "basic", "description": "Where `--web.config.file` has users."},
            },
        },
    }


def _operation(one: Operation, schema: Json | None) -> Json:
    found: Json = {
        "operationId": one.id,
        "summary": one.text.partition(". ")[0].rstrip("."),
        "description": one.text,
        "parameters": [_parameter(parameter) for parameter in one.parameters],
        "responses": {"200": _success(one, schema), **dict(_failures(one))},
    }
    if one.write:
        found["security"] = [{"token": []}]
    if one.takes:
        found["requestBody"] = {"required": True, "content": {one.takes: {"schema": {"type": "string"}}}}
    return found


def _success(one: Operation, schema: Json | None) -> Json:
    content: Json = {media: {"schema": {"type": "string"}} for media in one.media}
    if schema is not None:
        content[JSON] = {"schema": _enveloped(schema)}
    elif one.path.startswith("/sd/") and JSON in one.media:
        content[JSON] = {"schema": SLICE_SCHEMA}
    elif JSON in one.media:
        content[JSON] = {"schema": {"type": "object"}}
    if one.path == "/metrics":
        content[OPEN_METRICS] = {"schema": {"type": "string"}}
    if STREAM in one.media:
        content[STREAM] = {"schema": {"type": "string", "description": "`data` of each message is an event."}}
    return {"description": one.text, "content": content}


def _enveloped(data: Json) -> Json:
    return {
        "type": "object",
        "required": ["status", "data"],
        "properties": {"status": {"const": "success"}, "data": data},
    }


def _failures(one: Operation) -> Iterable[tuple[str, Json]]:
    for status, why in sorted((one.errors | (WRITE_ERRORS if one.write else {})).items()):
        yield str(status), _failure(one, why, status)
    yield "default", _failure(one, "Any other error.")


def _failure(one: Operation, why: str, status: int = 0) -> Json:
    if status == 304:
        return {"description": why}
    if one.path in ("/-/ready", "/-/leader") and status:
        return {"description": why, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"description": why, "content": {JSON: {"schema": {"$ref": REF.format(name="Failure")}}}}


def _parameter(one: Parameter) -> Json:
    schema: Json = {"type": one.kind}
    if one.most is not None:
        schema |= {"minimum": 0, "maximum": one.most}
    if one.default is not None:
        schema["default"] = one.default
    if one.repeated:
        schema = {"type": "array", "items": schema, "maxItems": 100}
    return {"name": one.name, "in": one.where, "required": one.required, "description": one.text, "schema": schema}
