"""What a config calls: can each `_target_` and `$` expression be imported, and does it take these arguments."""

import ast
import inspect
import re
from pydoc import ErrorDuringImport, locate
from typing import Any, NamedTuple

import torch.utils.data
from monai.bundle import ComponentLocator, ConfigComponent, ConfigExpression
from monai.bundle.utils import ID_SEP_KEY
from monai.data import DataLoader
from monai.utils import OptionalImportError

from cmunet_monai.check.config import RunConfig, python_of
from cmunet_monai.check.names import suggestion


class Call(NamedTuple):
    """What is called at an id of the config, and the ids of its arguments' contents."""

    config: RunConfig
    where: str
    function: Any
    arguments: dict[str, str]

    def value(self, argument: str) -> Any:
        """What MONAI makes of an argument; None where it is not given."""
        return self.config.value(self.arguments.get(argument))


def check_calls(config: RunConfig) -> list[Call]:
    """Name what cannot be imported and arguments that it does not take; return the calls that can be made."""
    items = list(config.parser.ref_resolver.items.items())
    for where, item in items:
        try:
            if isinstance(item, ConfigExpression) and item.is_import_statement(item.get_config()):
                getattr(item.evaluate(), "__name__", None)  # MONAI raises where what it could not import is used
        except OptionalImportError as error:
            config.mistake(where, f"`{item.get_config()[1:]}` fails: {str(error).splitlines()[0]}")
    calls = []
    for where, item in items:
        if isinstance(item, ConfigComponent) and not item.is_disabled():
            calls += _call_of_component(config, where, item)
        elif isinstance(item, ConfigExpression):
            calls += _call_of_expression(config, where, ast.parse(python_of(item.get_config())).body[0])
    return calls


def _call_of_component(config: RunConfig, where: str, item: ConfigComponent) -> list[Call]:
    target, mode = item.get_config()["_target_"], item.get_config().get("_mode_", "default")
    if not isinstance(target, str) or target.startswith(("@", "$")):
        return []
    try:
        function = locate(item.resolve_module_name())
    except ErrorDuringImport as error:
        config.mistake(where, f"importing `{target}` fails: {error.value}")
        return []
    if function is None:
        config.mistake(where, _what_is_missing(target, target, item.locator))
    named = {name: f"{where}{ID_SEP_KEY}{name}" for name in item.resolve_args() if name != "_debug_"}
    return _check_arguments(config, where, target, function, [], named, mode != "default")


def _what_is_missing(target: str, part: str, locator: ComponentLocator) -> str:
    parent, dot, name = part.rpartition(".")
    if dot and (module := locate(parent)):
        return f"`{parent}` has no `{name}`{suggestion(name, dir(module))}"
    if dot:
        return _what_is_missing(target, parent, locator)
    if part == target:
        return f"MONAI has no `{target}`{suggestion(target, locator._components_table or {})}"
    return f"`{target}` cannot be imported: there is no package `{part}`"


def _call_of_expression(config: RunConfig, where: str, statement: ast.stmt) -> list[Call]:
    """The call that an expression is, if it is one by name; what stands inside it, Python itself names when it runs."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
    if not isinstance(call, ast.Call) or not re.fullmatch(r"[\w.]+", name):
        return []
    try:
        function = eval(name, dict(config.parser.globals))
    except NameError as error:
        near = suggestion(str(error.name), config.parser.globals) or f' (is "$import {error.name}" missing?)'
        config.mistake(where, f"`{error.name}` is not defined{near}")
    except AttributeError as error:
        home, near = getattr(error.obj, "__name__", name), suggestion(str(error.name), dir(error.obj))
        config.mistake(where, f"`{home}` has no `{error.name}`{near}")
    except OptionalImportError:  # named where it is imported
        function = None
    else:
        named = {key.arg: config.add_expression(key.value) for key in call.keywords if key.arg}
        positional = [config.add_expression(value) for value in call.args if not isinstance(value, ast.Starred)]
        is_partial = len(named) + len(positional) < len(call.keywords) + len(call.args)
        return _check_arguments(config, where, name, function, positional, named, is_partial)
    return []


def _check_arguments(
    config: RunConfig,
    where: str,
    name: str,
    function: Any,
    positional: list[str],
    named: dict[str, str],
    is_partial: bool,
) -> list[Call]:
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # nothing to call, or a built-in that does not say what it takes
        return []
    is_loader = inspect.isclass(function) and issubclass(function, DataLoader)
    if is_loader and "kwargs" in parameters:  # which MONAI hands to torch's class
        del parameters["kwargs"]
        parameters.update(inspect.signature(torch.utils.data.DataLoader).parameters)
    known = {key: it for key, it in parameters.items() if it.kind not in (it.VAR_POSITIONAL, it.VAR_KEYWORD)}
    in_order = [key for key, it in known.items() if it.kind is not it.KEYWORD_ONLY]
    named = dict(zip(in_order, positional, strict=False)) | named
    takes_any = any(it.kind is it.VAR_KEYWORD for it in parameters.values())
    for argument in named:
        if argument not in known and not takes_any:
            near = suggestion(argument, known) or f"; it takes {', '.join(f'`{key}`' for key in known) or 'none'}"
            config.mistake(where, f"`{name}` takes no argument `{argument}`{near}")
    for key, it in known.items():
        if not is_partial and it.default is it.empty and key not in named:
            config.mistake(where, f"`{name}` needs the argument `{key}`")
    return [Call(config, where, function, named)]
