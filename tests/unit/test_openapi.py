"""The OpenAPI document says what is: its paths are the routes of the server, and real answers are as their types say."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from promring.web.openapi import document
from promring.web.operation import Operation
from promring.web.operations import OPERATIONS
from tests.unit.test_web import Running, running
from tests.waiting import until

ROOT = Path(__file__).parents[2]
TOKEN = {"Authorization": "Bearer sesame"}
QUERIES = {
    "/where": "?target=t1:9100",
    "/api/v1/where": "?target=t1:9100",
    "/api/v1/services/{service}/where": "?target=t1:9100",
    "/api/v1/services/{service}/targets": "?q=t1&limit=5",
}


def checked(schema: dict[str, Any], answer: object) -> None:
    """Raises ``ValidationError``. Fields that no schema names are wrong, too."""
    Draft202012Validator(closed(schema) | {"components": closed(document()["components"])}).validate(answer)


def closed(part: Any) -> Any:
    """The same schemas; an object may have no other fields than those that are named."""
    if isinstance(part, dict):
        more = {"additionalProperties": False} if "properties" in part and "additionalProperties" not in part else {}
        return {name: closed(value) for name, value in part.items()} | more
    return [closed(one) for one in part] if isinstance(part, list) else part


def schema_of(operation: Operation, status: str) -> dict[str, Any]:
    paths: Any = document()["paths"]
    responses = paths[operation.path][operation.method.lower()]["responses"]
    found: dict[str, Any] = responses.get(status, responses["default"])["content"]["application/json"]["schema"]
    return found


def path_of(operation: Operation, r: Running) -> str:
    fleet = "files-only" if operation.path.startswith("/sd") else "main"
    names = {"fleet": fleet, "service": "node", "scraper": r.nodes[0], "name": "page.css"}
    path = re.sub(r"\{(\w+)\}", lambda found: quote(names[found[1]], safe=""), operation.path)
    return path + QUERIES.get(operation.path, "")


async def asked(operation: Operation, r: Running, **headers: str) -> tuple[int, bytes]:
    body = (r.folder / "promring.yml").read_bytes() if operation.takes else None
    more = {"Accept": "application/json", **(TOKEN if operation.write else {}), **headers}
    async with r.session.request(operation.method, r.url + path_of(operation, r), data=body, headers=more) as answer:
        return answer.status, await answer.read()


async def test_every_route_of_the_server_is_in_the_document_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path, targets=False) as r:
        routes = {(route.method, route.path) for route in r.supervisor.web.routes()}
        assert {(one.method, one.path) for one in OPERATIONS} == routes
        _, _, body = await r.get("/api/v1/openapi.json")
        assert json.loads(body) == json.loads(json.dumps(document()))


async def test_each_answer_of_a_running_controller_is_as_its_type_says(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True, shrink_threshold=0.7) as r:

        async def looked() -> bool:
            services = await r.data("/api/v1/services")
            return all(one["coverage"]["at"] is not None for one in services)

        await until(looked, "the audit looked")
        r.write([{"targets": ["t1:9100"]}])  # doubted: something is held, and can be released
        await until(lambda: bool(r.supervisor.services["node"].withheld), "the list is doubted")
        for operation in (one for one in OPERATIONS if one.answer is not None):
            status, body = await asked(operation, r)
            wanted = 409 if operation.path == "/api/v1/fleets/{fleet}/release" else 200
            assert status == wanted, (operation.path, body)
            checked(schema_of(operation, str(status)), json.loads(body))


@pytest.mark.parametrize("planned", [True, False])
async def test_what_is_not_there_yet_is_null_as_the_types_say_and_errors_are_as_the_document_says(
    tmp_path: Path, planned: bool
) -> None:
    async with running(tmp_path, targets=planned) as r:
        for path in ("status", "fleets", "services"):
            operation = next(one for one in OPERATIONS if one.path == f"/api/v1/{path}")
            checked(schema_of(operation, "200"), json.loads((await asked(operation, r))[1]))
        for operation in (one for one in OPERATIONS if one.answer is not None and "{fleet}" in one.path):
            status, body = await asked(operation, r)  # there is no fleet of this name
            assert (status, status in operation.errors) == (404, True)
            checked(schema_of(operation, "404"), json.loads(body))


def test_each_operation_has_a_name_of_its_own_and_its_path_has_its_parameters() -> None:
    assert len({one.id for one in OPERATIONS}) == len(OPERATIONS)
    for one in OPERATIONS:
        assert set(re.findall(r"\{(\w+)\}", one.path)) == {p.name for p in one.parameters if p.where == "path"}, one.path


def test_every_field_of_an_answer_that_may_be_null_says_when_and_words_are_listed() -> None:
    components: Any = document()["components"]
    for name, schema in components["schemas"].items():
        assert schema["description"], name
        for key, field in schema["properties"].items():
            nullable = "null" in json.dumps(field.get("anyOf", ""))
            assert not nullable or re.search(r"null|[Nn]ull", field.get("description", "")) or "enum" in field, (name, key)


def test_the_reference_page_is_made_of_the_document() -> None:
    made = runpy.run_path(str(ROOT / "scripts/make-api-page"))["page"](document())
    assert (ROOT / "docs/api-reference.md").read_text() == made, "scripts/make-api-page writes it"


async def test_the_generation_of_a_service_is_of_its_own_slices(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:

        async def generations() -> dict[str, str]:
            return {one["name"]: one["generation"] for one in await r.data("/api/v1/services")}

        before = await generations()
        other = [{"targets": [f"w{n}:80" for n in range(20)], "labels": {"env": "test"}}]  # nothing moves
        (tmp_path / "web.json").write_text(json.dumps(other))

        async def changed() -> bool:
            return (await generations())["web"] != before["web"]

        await until(changed, "the slices of the other service are new")
        assert (await generations())["node"] == before["node"]
