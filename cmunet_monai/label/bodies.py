"""Allowed contents of request bodies.

MONAI Label hands on whatever they hold: to its processes, to their environment (`bundle_path` becomes code that is
imported), to its registry of frames. Here only what labelling needs gets through.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlencode

from cmunet_monai.label.refusal import RequestRefusedError
from cmunet_monai.label.workspace import ID

MAX_NAME = 128
MAX_PARAMETERS_BYTES = 2**16  # they become an argument of a process, and a part of the registry
MAX_DEPTH = 8
MAX_FORM_BYTES = 2**20  # without a file
_FORM = "application/x-www-form-urlencoded"
# beginning of a path -> keys of its JSON object; clients send others too, which are dropped
_KEYS: Mapping[str, tuple[str, ...]] = {
    "/activelearning/": ("client_id",),
    "/batch/infer/": ("device", "images", "label_tag", "largest_components", "max_batch_size", "threshold"),
    "/infer/": (
        *("background", "device", "foreground", "label_tag", "largest_components"),
        *("result_extension", "save_label", "threshold"),
    ),
    "/scoring/": ("device",),
    "/train/": ("device", "learning_rate", "max_epochs", "seed", "val_split"),
}


async def checked_body(path: str, kind: str, body: bytes) -> tuple[str, bytes]:
    """The content type and body that go on to MONAI Label.

    Args:
        path: of the request.
        kind: its content type.
        body: all of it.
    Raises:
        RequestRefusedError: if it is not what belongs there.
    """
    if not body:
        return kind, body
    if path == "/datastore/label":
        form = await _form(kind, body, allowed=("label", "params"))
        read_object(form.get("params", "{}"))
        return kind, body
    start = next((start for start in _KEYS if path.startswith(start)), None)
    if start is None:
        raise RequestRefusedError("nothing can be sent here")
    if start == "/infer/":
        form = await _form(kind, body, allowed=("params",))
        params = json.dumps(_only(read_object(form.get("params", "{}")), _KEYS[start]))
        return _FORM, urlencode({"params": params}).encode()
    found = _only(read_object(body), _KEYS[start])
    if start == "/batch/infer/":
        _check_batch(found)
    client = found.get("client_id", "")
    if not isinstance(client, str) or len(client) > MAX_NAME:
        raise RequestRefusedError(f"`client_id` must be a text of at most {MAX_NAME} characters")
    return "application/json", json.dumps(found).encode()


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object that can be written as JSON again.

    Raises:
        RequestRefusedError: for anything else, also with a number that is not finite or a text that is none, and for
            one that is too long or too deep.
    """
    if len(text) > MAX_PARAMETERS_BYTES:
        raise RequestRefusedError(
            f"parameters may have {MAX_PARAMETERS_BYTES} bytes, got {len(text)}: name fewer images or points",
            status=413,
        )
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RequestRefusedError("parameters must be a JSON object of finite numbers and texts")
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        level = [item for value in level if isinstance(value, (dict, list)) for item in _items(value)]
    if level:
        raise RequestRefusedError(f"parameters may be nested {MAX_DEPTH} deep")
    return found


def _items(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _check_batch(found: Mapping[str, Any]) -> None:
    """What would end the task in the background, where nobody sees why."""
    size = found.get("max_batch_size", 0)
    if type(size) is not int or size < 0:
        raise RequestRefusedError(f"`max_batch_size` must be 0 (all) or a whole number above, got {str(size)[:40]!r}")
    images = found.get("images", "all")
    named = isinstance(images, list) and all(isinstance(name, str) and ID.fullmatch(name) for name in images)
    if not named and images not in ("all", "labeled", "unlabeled"):
        raise RequestRefusedError("`images` must be `all`, `labeled`, `unlabeled` or a list of image names")


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _only(found: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: found[key] for key in keys if key in found}


async def _form(kind: str, body: bytes, *, allowed: tuple[str, ...]) -> dict[str, str]:
    """The fields of a form, files among them with their name.

    Raises:
        RequestRefusedError: if it is no form, or has other fields or one twice.
    """
    if kind.lower().startswith(_FORM):
        if len(body) > MAX_FORM_BYTES:
            raise RequestRefusedError(f"a form without a file may have {MAX_FORM_BYTES} bytes", status=413)
        try:
            fields = parse_qs(
                body.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="surrogateescape",
                max_num_fields=8,
            )  # fmt: skip
        except ValueError:
            raise RequestRefusedError(f"the form may hold {' and '.join(allowed)}, once") from None
        items = [(name, value) for name, values in fields.items() for value in values]
    elif kind.lower().startswith("multipart/form-data"):
        items = await _parts(kind, body)
    else:
        raise RequestRefusedError("a form is expected here")
    names = [name for name, _ in items]
    if len(set(names)) < len(names) or not set(names) <= set(allowed):
        raise RequestRefusedError(f"the form may hold {' and '.join(allowed)}, once")
    return dict(items)


async def _parts(kind: str, body: bytes) -> list[tuple[str, str]]:
    from starlette.datastructures import Headers
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream():  # type: ignore[no-untyped-def]
        yield body

    try:
        form = await MultiPartParser(Headers({"content-type": kind}), stream(), max_files=4, max_fields=4).parse()
    except (MultiPartException, KeyError, ValueError):
        raise RequestRefusedError("the form is damaged") from None
    items = []
    for name, value in form.multi_items():
        if isinstance(value, str):
            items.append((name, value))
            continue
        if not value.filename or len(value.filename) > MAX_NAME:
            raise RequestRefusedError(f"a file must have a name of at most {MAX_NAME} characters")
        items.append((name, value.filename))
    await form.close()
    return items
