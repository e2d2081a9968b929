"""Strict settings: YAML files become frozen pydantic models; each fault is one sentence that names its key.

Over a file lie variables of the environment, over these `--set`: `docs/configuration.md` is for users.
"""

from __future__ import annotations

import datetime
import difflib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from quarterturn.worker.contract.errors import ConfigError

S = TypeVar("S", bound=BaseModel)

PREFIX = "QUARTERTURN_"
"""Of the variables of the environment that are settings."""

_SECTION = "must be a section (key: value lines)"
_LIST = "must be a list, such as [{example}]"
_TEXT = "must be text; put it in quotes"
_NUMBER = "must be a number"
_WHOLE = "must be a whole number"
_BOOLEAN = "must be true or false"
_SENTENCES = {
    "model_type": _SECTION,
    "dict_type": _SECTION,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} items",
    "path_type": "must be a path",
    "string_type": _TEXT,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
}
"""What pydantic says in the words of Python, by the type of its fault."""

_CLOSE = 0.8  # as difflib counts; a wrong letter in five makes a word no other


class Settings(BaseModel):
    """Base of every settings model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_settings(
    path: Path, model: type[S], overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> S:
    """Read the YAML file at `path` into `model`.

    Args:
        path: the YAML file.
        model: the settings class that the file must fit.
        overrides: `a.b=value` assignments laid over file and environment; values are read as YAML.
        environment: variables laid over the file: `QUARTERTURN_A__B` is `a.b`, its value is read as YAML. Those that do
            not begin with a key of `model` are left alone.

    Raises:
        ConfigError: the file is missing, is no YAML, a key is unknown, missing or out of range, or a variable is nearly
            the name of a setting.
    """
    document = _read(path)
    laid: list[tuple[list[str], str]] = []  # the keys of what lies over the file, and the place that their faults name
    for variable, keys, value in _variables(environment or {}, model):
        _lay_over(document, keys, value, variable)
        laid.append((keys, variable))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {override}: write it as key=value, for example --set data.side=128")
        keys, place = key.split("."), f"--set {key}"  # not the value: it may be a secret
        _lay_over(document, keys, value, place)
        laid.append((keys, place))
    return _validate(document, model, lambda keys: _origin(keys, laid, str(path)))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file; 'quarterturn init' writes a set of settings, or name another"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        hint = "; use spaces, not tabs" if r"'\t'" in problem else ""
        raise ConfigError(f"{path}:{place} is not valid YAML: {problem}{hint}") from error
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be a configuration; correct it") from None
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold 'key: value' lines, but holds a {type(document).__name__}")
    return document


def parse_settings(document: Mapping[str, Any], model: type[S], where: str) -> S:
    """Validate `document` as `model`; `where` names the document in errors.

    Raises:
        ConfigError: one line per fault.
    """
    return _validate(document, model, lambda _: where)


def _validate(document: Mapping[str, Any], model: type[S], origin: Callable[[Sequence[int | str]], str]) -> S:
    """`origin` names the place of the value at some keys."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = error.errors()
        told = [_sentence(fault, model, origin) for fault in faults if not _is_too_short_by_others(fault, faults)]
        raise ConfigError("\n".join(told)) from None


def _is_too_short_by_others(fault: ErrorDetails, faults: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because what is wrong in it does not count."""
    within = [other for other in faults if other is not fault and other["loc"][: len(fault["loc"])] == fault["loc"]]
    return fault["type"] == "too_short" and bool(within)


def _variables(environment: Mapping[str, str], model: type[BaseModel]) -> Iterator[tuple[str, list[str], str]]:
    """Name, keys and value of each variable that is a setting of `model`; a section comes before what is in it."""
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        keys = variable.removeprefix(PREFIX).lower().split("__")
        if keys[0] in model.model_fields:
            yield variable, keys, environment[variable]
        elif meant := _meant(keys, model):
            raise ConfigError(f"{variable} is no setting; did you mean '{PREFIX}{'__'.join(meant).upper()}'?")


def _meant(keys: Sequence[str], model: type[BaseModel]) -> Sequence[str] | None:
    """The keys that these very likely stand for: with other underscores, or with the first one spelt well."""
    if known := {"_".join(path): path for path in _paths(model)}.get("_".join(keys)):
        return known
    close = difflib.get_close_matches(keys[0], model.model_fields, n=1, cutoff=_CLOSE)
    return [*close, *keys[1:]] if close else None


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """The keys of every value in `model` and its sections."""
    for name, field in model.model_fields.items():
        inner = [path for section in _models_in(field.annotation) for path in _paths(section)]
        yield from [(name, *path) for path in inner] or [(name,)]


def _lay_over(document: dict[str, Any], keys: Sequence[str], text: str, where: str) -> None:
    *parents, leaf = keys
    for parent in parents:
        section = document.get(parent)
        if section is not None and not isinstance(section, dict):
            raise ConfigError(f"{where}: '{parent}' is a value, not a section")
        document[parent] = dict(section or {})  # a copy: with YAML's anchors it may stand elsewhere, too
        document = document[parent]
    try:
        document[leaf] = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"{where}: the value is not valid YAML; quote it") from None


def _origin(keys: Sequence[int | str], laid: Sequence[tuple[list[str], str]], file: str) -> str:
    """Where the value at `keys` was written last; for a section, also what was laid into it."""
    for path, place in reversed(laid):
        if path == list(keys[: len(path)]):
            return place
    within = [place for path, place in laid if path[: len(keys)] == list(keys)]
    return f"{file} with {', '.join(within)}" if within else file


def _sentence(fault: ErrorDetails, model: type[BaseModel], origin: Callable[[Sequence[int | str]], str]) -> str:
    """One fault of pydantic as a sentence: place, what is wrong, what to do."""
    path = tuple(step for step in fault["loc"] if not (isinstance(step, str) and step.startswith("function-")))
    key, where = ".".join(str(step) for step in path), origin(path)
    if fault["type"] == "extra_forbidden":
        known = sorted(_field_names(model, path[:-1]))
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        return f"{where}: {key} is unknown; {hint}"
    if fault["type"] == "missing":
        return f"{where}: {key} is missing; add it"
    if fault["type"] == "model_type" and fault["ctx"]["class_name"] == "Secret":  # what stands there may be one
        return f"{where}: {key}: write where the secret is, {{env: NAME}} or {{file: PATH}}, not the secret"
    place = f"{where}: {key}" if key else where
    if isinstance(fault["input"], dict):
        return f"{place}: {_message(fault)}"
    shown = str(fault["input"]) if isinstance(fault["input"], datetime.date) else repr(fault["input"])
    return f"{place} = {shown}: {_message(fault)}"


def _message(fault: ErrorDetails) -> str:
    """What is wrong, without its place."""
    if fault["type"] == "value_error":  # a validator of ours
        return fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "string_type" and isinstance(fault["input"], datetime.date):
        return "is a date for YAML; put it in quotes"
    if fault["type"] in _SENTENCES:
        example = fault["input"] if isinstance(fault["input"], str | int | float) else "a, b"
        return _SENTENCES[fault["type"]].format(example=example, **fault.get("ctx", {}))
    return fault["msg"][:1].lower() + fault["msg"][1:]


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
    """YAML that refuses a key written twice (PyYAML keeps the last one silently), and each fault is a YAMLError."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError):  # PyYAML's, for '2026-13-45' or '!!bool maybe'
            problem = f"{node.value!r} is no value of the type that it looks like; quote it"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:  # before merge keys (<<) are resolved: a key may override a merged one
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is set twice; keep one", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
