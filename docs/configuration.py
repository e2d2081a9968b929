"""Write docs/configuration.md from the settings' models: `python docs/configuration.py`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quarterturn.demo.config import DemoSettings
from quarterturn.engine_build.config import BuildSettings
from quarterturn.trainer.config import TrainSettings
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import WorkerSettings

PAGE = Path(__file__).with_suffix(".md")

FILES: dict[str, tuple[type[Settings], str]] = {
    "train.yaml": (TrainSettings, "`quarterturn train`; `configs/paper.yaml` has the same keys"),
    "build.yaml": (BuildSettings, "`quarterturn build`"),
    "bank.yaml": (FitSettings, "`quarterturn bank fit`"),
    "worker.yaml": (
        WorkerSettings,
        "`quarterturn run`, `doctor`, `camera`, `silence`, `parts`, `evaluate` and the other commands of `bank`",
    ),
    "demo.yaml": (DemoSettings, "`quarterturn demo`"),
}

INTRODUCTION = """\
# Configuration

*Written by `docs/configuration.py` from the models of the code: change these, and run it again.*

A command with settings reads them from one YAML file, `--config FILE`; [configs/](../configs/) has one of each. These
say the defaults: a line that is left out changes nothing, and one that has no default is asked for. Over the file lies
the environment, over the environment lies `--set`:

| | |
|---|---|
| file | `transport: {kafka: {bootstrap_servers: "kafka:9092"}}` |
| environment | `QUARTERTURN_TRANSPORT__KAFKA__BOOTSTRAP_SERVERS=kafka:9092` |
| command line | `--set transport.kafka.bootstrap_servers=kafka:9092` |

A key that is unknown, missing or out of range is refused, with its place in the file or the variable's name.

**Variables** begin with `QUARTERTURN_`; a key is written in capitals, and two underscores lead into a section. Values
are read as YAML, as those of `--set` are: `QUARTERTURN_TARGETS='[openvino, onnxruntime]'`; an empty one is `null`. Keys
from variables are in small letters, so where you choose the keys yourself (cameras, products) set the whole section:
`QUARTERTURN_CAMERAS='{Top-01: {products: [ring]}}'`.

A variable is a setting of each command whose file has its first key: `run` and `bank fit` both read
`QUARTERTURN_OVERKILL`, so give a variable to the command that it is for. Any other is left alone: it may be for another
command, or hold a secret that a setting names ([security.md](security.md)), such as `QUARTERTURN_REDIS_PASSWORD`. But
what is nearly a setting is refused: a first key that is misspelt (`QUARTERTURN_OVERKIL`), and one underscore where two
belong (`QUARTERTURN_HTTP_PORT`; Kubernetes makes this very one for a service named `quarterturn-http`, unless the pod
has `enableServiceLinks: false`).

In the tables a *name* holds letters, digits, `.`, `_` and `-`, 200 at most; `NAME` is a key that you choose."""

Schema = Mapping[str, Any]
"""Of one model or one field, as JSON Schema has it."""


def page() -> str:
    """The whole page."""
    schemas: dict[str, Schema] = {file: model.model_json_schema() for file, (model, _) in FILES.items()}
    models = {name: model for schema in schemas.values() for name, model in schema["$defs"].items()}
    whole = {model.__name__: file for file, (model, _) in FILES.items()}
    sections = {file: list(_sections(schemas[file], models, whole)) for file in FILES}
    uses = Counter(name for found in sections.values() for _, name in found)
    headings = whole | {name: name.removesuffix("Settings") for name in uses}
    headings |= {name: f"{file}: {path}" for file, found in sections.items() for path, name in found if uses[name] == 1}
    page = [INTRODUCTION]
    for file, (_, commands) in FILES.items():
        page += [f"## {file}", f"For {commands}.", _table(schemas[file], models, headings)]
        page += [text for _, name in sections[file] if uses[name] == 1 for text in _section(name, models, headings)]
    page.append("## Sections that stand in several places")
    page += [text for name in sorted(uses) if uses[name] > 1 for text in _section(name, models, headings)]
    return "\n\n".join(page) + "\n"


def _sections(model: Schema, models: Mapping[str, Schema], whole: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Key and model of each section in `model`, and of those in it; `NAME` is a key that the user chooses."""
    for key, field in model["properties"].items():
        for name, below in _references(field):
            if name not in whole:
                yield f"{key}{below}", name
                yield from ((f"{key}{below}.{path}", inner) for path, inner in _sections(models[name], models, whole))


def _references(field: Schema, below: str = "") -> Iterator[tuple[str, str]]:
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], below
    for choice in field.get("anyOf", ()):
        yield from _references(choice, below)
    if field.get("type") == "object":
        yield from _references(_named(field), ".NAME")
    if field.get("type") == "array":
        yield from _references(field.get("items", {}), below)


def _section(name: str, models: Mapping[str, Schema], headings: Mapping[str, str]) -> list[str]:
    return [f"### {headings[name]}", _plain(models[name]["description"]), _table(models[name], models, headings)]


def _table(model: Schema, models: Mapping[str, Schema], headings: Mapping[str, str]) -> str:
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for key, field in model["properties"].items():
        default = "required" if key in model.get("required", ()) else _default(field)
        about = field.get("description") or " ".join(
            models[name]["description"].partition(". ")[0].rstrip(".") for name, _ in _references(field)
        )
        lines.append(f"| `{key}` | {_kind(field, headings)} | {default} | {_plain(about)} |")
    return "\n".join(lines)


def _kind(field: Schema, headings: Mapping[str, str]) -> str:
    """What values a field takes, in plain words."""
    if "$ref" in field:
        return f"[section](#{anchor(headings[field['$ref'].rpartition('/')[2]])})"
    if "anyOf" in field:
        return "; or ".join(_kind(choice, headings) for choice in field["anyOf"])
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {_kind(field['prefixItems'][0], headings)}"
    if field["type"] == "array":
        return f"list: {_kind(field['items'], headings)}"
    if field["type"] == "object":
        return f"{_kind(_named(field), headings)} for each name"
    return ", ".join([_word(field), *_bounds(field)])


def _word(field: Schema) -> str:
    if "const" in field or "enum" in field:
        *most, last = (f"`{one}`" for one in field.get("enum") or [field["const"]])
        return f"{', '.join(most)} or {last}" if most else last
    text = "path" if field.get("format") == "path" else "name" if "pattern" in field else "text"
    words = {"integer": "whole number", "number": "number", "string": text, "boolean": "`true` or `false`"}
    return words.get(field["type"], f"`{field['type']}`")


def _named(field: Schema) -> Schema:
    """What a section holds whose keys the user chooses."""
    return dict(field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), {}))


def _bounds(field: Schema) -> Iterator[str]:
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    words["multipleOf"] = "a multiple of"
    yield from (f"{word} {field[bound]:g}" for bound, word in words.items() if bound in field)


def _default(field: Schema) -> str:
    if isinstance(field.get("default"), dict):  # a section's own defaults, which its table says
        return ""
    default = field.get("default", {})  # pydantic leaves an empty section out
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _plain(text: str) -> str:
    """As a reader of YAML says it, on one line."""
    return re.sub(r"\bNone\b", "`null`", " ".join(text.split()))


def anchor(heading: str) -> str:
    """The name by which GitHub links to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
