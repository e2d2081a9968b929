"""What all published JSON has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


class Data(BaseModel):
    """Base of the published JSON: camelCase names, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def fault_of(error: ValidationError) -> str:
    """The first thing that is wrong with a document: its place there, and what."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the record'}: {fault['msg']}"
