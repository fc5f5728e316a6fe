"""JSON files of known keys, read into models; a mistake is named by its place in the file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from cmunet_monai.check.names import suggestion


class JsonObject(BaseModel):
    """An object whose keys are the fields, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The object in a file.

        Raises:
            ValueError: for each mistake its place in the file, and what is expected there.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8-sig"))
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "json_invalid":
                raise ValueError(f"{path} is not JSON: {first['ctx']['error']}") from None
            raise ValueError(f"{path}: {in_words(cls, error)}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None


def in_words(model: type[BaseModel], error: ValidationError) -> str:
    """All mistakes in what was to be this model."""
    # a list is also too short when none of its items is right, which is said already
    found = [item for item in error.errors(include_url=False) if item["type"] != "too_short" or not item["input"]]
    return "; ".join(_mistake(model, item) for item in found)


def _mistake(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    *outer, last = error["loc"] or ("",)
    if error["type"] == "extra_forbidden":
        near = suggestion(str(last), _fields_at(model, outer))
        return f"{_place(error['loc'])} is no setting{near}"
    if error["type"] == "missing":
        return f"{_place(error['loc'])} is missing"
    if error["type"] == "value_error":
        return f"{_place(error['loc'])} {error['ctx']['error']}"
    if last == "[key]":
        return f'{_place(outer)}: a name is of letters, digits, "_", "-" and "."'
    said = "must not be empty" if error["type"] == "too_short" else error["msg"].replace("Input should be", "must be")
    return f"{_place(error['loc'])} {said}, got {json.dumps(error['input'])}"


def _place(steps: Sequence[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
    return f"`{text}`" if text else "the file"


def _fields_at(model: type[BaseModel], steps: Sequence[str | int]) -> list[str]:
    """The keys that the object at a place may have."""
    for step in steps:
        if step in model.model_fields:  # else the name of an item, or its number
            model = _model_in(model.model_fields[step].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model in a type, such as that of the items of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
