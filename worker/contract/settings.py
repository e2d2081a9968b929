"""Strict settings: YAML files become frozen pydantic models; each fault is one sentence that names its key."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from worker.contract.errors import ConfigError

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_settings(path: Path, model: type[S], overrides: Sequence[str] = ()) -> S:
    """Read the YAML file at `path` into `model`.

    Args:
        path: the YAML file.
        model: the settings class that the file must fit.
        overrides: `a.b=value` assignments laid over the file; values are read as YAML.

    Raises:
        ConfigError: the file is missing, is no YAML, or a key is unknown, missing or out of range.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}:{place} is not valid YAML: {problem}") from error
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be a configuration; correct it") from None
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold 'key: value' lines, but holds a {type(document).__name__}")
    for override in overrides:
        _lay_over(document, override)
    return parse_settings(document, model, str(path))


def parse_settings(document: Mapping[str, Any], model: type[S], where: str) -> S:
    """Validate `document` as `model`; `where` names the document in errors.

    Raises:
        ConfigError: one line per fault.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(fault, model, where) for fault in error.errors())) from None


def _lay_over(document: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set {override}: write it as key=value, for example --set data.side=128")
    *parents, leaf = key.split(".")
    for parent in parents:
        if document.get(parent) is None:  # also a section that the file leaves empty
            document[parent] = {}
        document = document[parent]
        if not isinstance(document, dict):
            raise ConfigError(f"--set {override}: '{parent}' is a value, not a section")
    try:
        document[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; quote it") from None


def _sentence(fault: ErrorDetails, model: type[BaseModel], where: str) -> str:
    """One fault of pydantic as a sentence: place, what is wrong, what to do."""
    path = tuple(step for step in fault["loc"] if not (isinstance(step, str) and step.startswith("function-")))
    key = ".".join(str(step) for step in path)
    if fault["type"] == "extra_forbidden":
        known = sorted(_field_names(model, path[:-1]))
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        return f"{where}: {key} is unknown; {hint}"
    if fault["type"] == "missing":
        return f"{where}: {key} is missing; add it"
    if fault["type"] == "model_type" and fault["ctx"]["class_name"] == "Secret":  # what stands there may be one
        return f"{where}: {key}: write where the secret is, {{env: NAME}} or {{file: PATH}}, not the secret"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    place = f"{where}: {key}" if key else where
    return f"{place}: {message}" if isinstance(fault["input"], dict) else f"{place} = {fault['input']!r}: {message}"


def _field_names(model: type[BaseModel], path: Sequence[int | str]) -> set[str]:
    """The names allowed at `path` below `model`."""
    models = {model}
    for step in path:
        models = {inner for outer in models for inner in _models_behind(outer, step)} or models
    return {name for found in models for name in found.model_fields}


def _models_behind(model: type[BaseModel], step: int | str) -> Iterator[type[BaseModel]]:
    field = model.model_fields.get(str(step))
    if field is not None:
        yield from _models_in(field.annotation)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings models inside an annotation such as `dict[str, Camera] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice (PyYAML keeps the last one silently)."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:  # before merge keys (<<) are resolved: a key may override a merged one
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is set twice; keep one", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
