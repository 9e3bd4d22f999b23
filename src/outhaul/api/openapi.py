"""The OpenAPI 3.1 document, made from the table of operations and the shapes that it names."""

from __future__ import annotations

import re
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import msgspec

from outhaul import __version__, errors
from outhaul.api import problems
from outhaul.api.operations import JSON, Operation
from outhaul.rest import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from msgspec import Struct

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_ABOUT = """\
Exports of the raw data of mobile apps: asked for, watched, stopped, taken up again, and proven complete.

Every answer has an `X-Request-Id`: the one that the request had (up to 64 letters, digits, dots, dashes or \
underscores), or a new one. Instants are RFC 3339; where one is asked for, a date will do. Members may be added to \
answers: ignore those that you do not know. Page tokens are opaque.
"""
_BEARER = """\
An API token (`outhaul_…`), an access token of this server's OAuth2 token endpoint, or one of the OpenID provider that \
the operator has named.\
"""
_REQUEST_ID = {"$ref": "#/components/headers/X-Request-Id"}
_HEADERS = {
    "X-Request-Id": {"description": "The id of this request.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": _BEARER},
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "link",
        "description": "The permission in a link that an export shows.",
    },
}
_BODY_PROBLEMS = ("too_large",)


def document(operations: tuple[Operation, ...]) -> dict[str, Any]:
    """The document, but for where the API is."""
    paths: dict[str, dict[str, Any]] = {}
    refs, components = _schemas(operations)
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Outhaul", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": components, "headers": _HEADERS, "securitySchemes": _SECURITY},
    }


def _schemas(operations: Iterable[Operation]) -> tuple[dict[type, Any], dict[str, Any]]:
    """References to the shapes that operations name, and the schemas that they lead to."""
    shapes: list[type[Struct]] = [Problem]
    for operation in operations:
        shapes += [shape for shape in (operation.body, operation.answer) if shape and shape not in shapes]
    refs, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    for schema in components.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    return dict(zip(shapes, refs, strict=True)), components


def _describe(operation: Operation, refs: dict[type, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [re.split("[/:]", operation.path)[1]],
        "summary": operation.summary,
        "description": _help(operation),
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation),
            *_header_parameters(operation),
        ],
        "responses": {**_successes(operation, refs), **_refusals(operation, refs)},
        "security": _security(operation),
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": refs[operation.body]}
        if operation.example is not None:
            content["example"] = operation.example
        described["requestBody"] = {"required": not operation.body_optional, "content": {JSON: content}}
    return described


def _help(operation: Operation) -> str:
    needs = {
        "nothing": "Needs no token.",
        "caller": "Needs a token, whatever its scopes.",
    }.get(operation.needs, f"Needs the scope `{operation.needs}`.")
    return f"{operation.help} {needs}".strip()


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.needs == "nothing":
        return []
    ways: list[dict[str, list[str]]] = [
        {"bearer": [] if operation.needs == "caller" else [str(operation.needs)]}
    ]
    return [*ways, {"link": []}] if operation.linked else ways


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name, _ in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    _, components = msgspec.json.schema_components([operation.query])
    schema = components[operation.query.__name__]
    parameters = []
    for name, member in schema["properties"].items():
        if operation.linked and name == "link":
            # It is among the security schemes.
            continue
        # An option that is not given is not there: nothing in a query is null.
        given = next((one for one in member.get("anyOf", ()) if one.get("type") != "null"), member)
        given = {key: value for key, value in given.items() if key != "default" or value is not None}
        about = given.pop("description", "")
        required = name in schema.get("required", ())
        parameters.append(
            {"name": name, "in": "query", "required": required, "description": about, "schema": given}
        )
    return parameters


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.help,
            "schema": header.schema,
        }
        for header in operation.takes
    ]


def _successes(operation: Operation, refs: dict[type, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": _REQUEST_ID}
    for header in operation.gives:
        headers[header.name] = {"description": header.help, "schema": header.schema}
    schema = refs[operation.answer] if operation.answer else {}
    content = {} if operation.method == "HEAD" else {"content": {operation.media: {"schema": schema}}}
    statuses = ((operation.status, operation.summary + "."), *operation.more)
    return {str(status): {"description": about, "headers": headers, **content} for status, about in statuses}


def _refusals(operation: Operation, refs: dict[type, Any]) -> dict[str, Any]:
    """Every status of an error, with the codes that it can have, each with an example."""
    by_status: dict[int, list[str]] = {}
    for code in codes(operation):
        by_status.setdefault(problems.PROBLEMS[code].status, []).append(code)
    return {str(status): _refusal(operation, status, by_status[status], refs) for status in sorted(by_status)}


def codes(operation: Operation) -> tuple[str, ...]:
    """Every code that an operation can answer with."""
    found = [*problems.EVERYWHERE, *operation.problems]
    if operation.needs != "nothing":
        found += problems.OF_CALLERS
    if operation.body is not None:
        found += _BODY_PROBLEMS
    return tuple(dict.fromkeys(found))


def _refusal(operation: Operation, status: int, given: list[str], refs: dict[type, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": _REQUEST_ID}
    if status in {problems.PROBLEMS[code].status for code in ("busy", "too_many")}:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    examples = {
        code: {
            "value": problems.show(errors.OuthaulError("…", hint="…", code=code), status, "…", "/api/v1/…")
        }
        for code in given
    }
    titles = [problems.PROBLEMS[code].title for code in given]
    meanings = [
        f"`{code}`: {title[:1].lower()}{title[1:]}" for code, title in zip(given, titles, strict=True)
    ]
    answer: dict[str, Any] = {"description": f"{'; '.join(meanings)}.", "headers": headers}
    if operation.method != "HEAD":
        answer["content"] = {problems.MEDIA: {"schema": refs[Problem], "examples": examples}}
    return answer
