"""What a config calls: can each `_target_` and `$` expression be imported, and does it take these arguments."""

import ast
import builtins
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pydoc import ErrorDuringImport, locate
from types import ModuleType
from typing import Any

import torch.utils.data
from monai.bundle import ComponentLocator, ConfigComponent, ConfigExpression
from monai.data import DataLoader

from cmunet_monai.check.config import MergedConfig
from cmunet_monai.check.names import show_id, suggestion
from cmunet_monai.check.values import LOCAL_REFERENCES, dotted_name, expression_source


@dataclass(frozen=True)
class Call:
    """A call that the config makes.

    Attributes:
        where: its id in the config.
        name: as it is written there.
        function: what is called.
        arguments: by name; values are config content, or for those of `$` expressions that content again.
    """

    where: str
    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]


def check_components(config: MergedConfig) -> list[Call]:
    """Name targets that cannot be imported and arguments that they do not take; return the calls that can be made."""
    locator = ComponentLocator()
    calls = []
    for config_id, value in config.items():
        if not ConfigComponent.is_instantiable(value) or _is_off(value):
            continue
        where, target = f"`{show_id(config_id)}`", value["_target_"]
        if not isinstance(target, str):
            config.problems.append(f"{where}: `_target_` must be a name, got {target!r}")
        elif not target.startswith(("@", "$")):
            try:
                function = _locate(target, locator)
            except ImportError as error:
                config.problems.append(f"{where}: {error}")
                continue
            if callable(function):
                arguments = {key: item for key, item in value.items() if key not in ConfigComponent.non_arg_keys}
                arguments.pop("_debug_", None)
                partial = value.get("_mode_", "default") != "default"
                config.problems += _wrong_arguments(where, target, function, arguments, partial=partial)
                calls.append(Call(config_id, target, function, arguments))
    return calls + _check_expressions(config)


def _is_off(component: Mapping[str, Any]) -> bool:
    disabled = component.get("_disabled_", False)
    return disabled is True or (isinstance(disabled, str) and disabled.lower().strip() == "true")


# Names ----------------------------------------------------------------------------------------------------------------


def _locate(target: str, locator: ComponentLocator) -> Any:
    """What MONAI would instantiate for `target`.

    Raises:
        ImportError: with a message that names the part that is wrong.
    """
    modules = locator.get_component_module_name(target)
    module = modules[0] if isinstance(modules, list) else modules
    try:
        found = locate(f"{module}.{target}" if module else target)
    except ErrorDuringImport as error:
        raise ImportError(f"importing `{target}` fails: {error.value}") from error
    if found is not None:
        return found
    if "." not in target:
        table = getattr(locator, "_components_table", None) or {}
        raise ImportError(f"MONAI has no `{target}`{suggestion(target, table)}")
    raise ImportError(_what_is_missing(target))


def _what_is_missing(target: str) -> str:
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        parent_name = ".".join(parts[:count])
        parent = locate(parent_name)
        if parent is not None:
            near = suggestion(parts[count], (name for name in dir(parent) if not name.startswith("_")))
            return f"`{parent_name}` has no `{parts[count]}`{near}"
    return f"`{target}` cannot be imported: there is no package `{parts[0]}`"


# Arguments ------------------------------------------------------------------------------------------------------------


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Parameters by name; None where they cannot be known (built-ins), without `**kwargs` where these are known."""
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    if inspect.isclass(function) and issubclass(function, DataLoader):
        # MONAI's loaders hand their **kwargs to the torch class that they derive from.
        parameters = {
            name: parameter
            for name, parameter in parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        optional = inspect.signature(torch.utils.data.DataLoader).parameters
        parameters = {**dict(optional), **parameters}
    return parameters


def _wrong_arguments(
    where: str, name: str, function: Callable[..., Any], arguments: Iterable[str], *, partial: bool
) -> Iterator[str]:
    parameters = _parameters(function)
    if parameters is None:
        return
    by_name = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for argument in arguments:
        if argument not in by_name and not takes_any:
            near = suggestion(argument, by_name) or f"; it takes {', '.join(f'`{key}`' for key in by_name) or 'none'}"
            yield f"{where}: `{name}` takes no argument `{argument}`{near}"
    for key, parameter in by_name.items():
        if not partial and parameter.default is inspect.Parameter.empty and key not in arguments:
            yield f"{where}: `{name}` needs the argument `{key}`"


# Expressions ----------------------------------------------------------------------------------------------------------


def _check_expressions(config: MergedConfig) -> list[Call]:
    """Name `$` expressions that are not Python, that import or use what is not there, or call it wrongly."""
    expressions = [(where, value) for where, value in config.items() if ConfigExpression.is_expression(value)]
    names: dict[str, Any] = dict(config.parser.globals)
    trees = []
    for config_id, value in expressions:
        where = f"`{show_id(config_id)}`"
        try:
            tree = ast.parse(expression_source(value))
        except SyntaxError as error:
            config.problems.append(f"{where}: `{value}` is not Python: {error.msg}")
            continue
        statement = tree.body[0] if tree.body else None
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            config.problems += [f"{where}: {problem}" for problem in _import(statement, names)]
        elif isinstance(statement, ast.Expr) and len(tree.body) == 1:
            trees.append((config_id, statement.value))
        else:
            config.problems.append(f"{where}: `{value}` must be one expression")
    calls: list[Call] = []
    for config_id, expression in trees:
        config.problems += _check_names(config_id, expression, names, calls)
    return calls


def _import(statement: ast.Import | ast.ImportFrom, names: dict[str, Any]) -> Iterator[str]:
    alias = statement.names[0]  # MONAI reads the first only
    try:
        if isinstance(statement, ast.Import):
            module = importlib.import_module(alias.name)
            found: Any = module
        else:
            module = importlib.import_module(statement.module or "")
            found = getattr(module, alias.name, None) or importlib.import_module(f"{statement.module}.{alias.name}")
    except ImportError as error:
        yield f"`{ast.unparse(statement)}` fails: {error}"
        found = None
    # a name that failed is known all the same: it is reported once, here
    names[alias.asname or alias.name] = found


def _check_names(config_id: str, expression: ast.expr, names: dict[str, Any], calls: list[Call]) -> Iterator[str]:
    where = f"`{show_id(config_id)}`"
    nodes = list(ast.walk(expression))
    local = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local |= {node.arg for node in nodes if isinstance(node, ast.arg)} | {LOCAL_REFERENCES}
    reported: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in local | set(names) | set(dir(builtins)) | reported:
            reported.add(node.id)
            near = suggestion(node.id, names) or f' (is "$import {node.id}" missing?)'
            yield f"{where}: `{node.id}` is not defined{near}"
        if isinstance(node, ast.Attribute):
            parent = _resolve(node.value, names, local)
            if isinstance(parent, ModuleType) and not hasattr(parent, node.attr):
                near = suggestion(node.attr, (name for name in dir(parent) if not name.startswith("_")))
                yield f"{where}: `{parent.__name__}` has no `{node.attr}`{near}"
        if isinstance(node, ast.Call):
            function = _resolve(node.func, names, local)
            if callable(function):
                yield from _check_call(config_id, node, function, calls)


def _resolve(node: ast.AST, names: Mapping[str, Any], local: set[str]) -> Any:
    """What a chain of names in an expression stands for; None where it is not modules and classes all the way."""
    dotted = dotted_name(node)
    if dotted is None or dotted.split(".")[0] in local:
        return None
    root, *attributes = dotted.split(".")
    found = names.get(root)
    for attribute in attributes:
        if not isinstance(found, ModuleType) and not inspect.isclass(found):
            return None
        found = getattr(found, attribute, None)
    return found


def _check_call(config_id: str, node: ast.Call, function: Callable[..., Any], calls: list[Call]) -> Iterator[str]:
    unpacked = any(isinstance(value, ast.Starred) for value in node.args)
    if unpacked or any(keyword.arg is None for keyword in node.keywords):
        return
    parameters = _parameters(function)
    if parameters is None:
        return
    positional = [
        key
        for key, parameter in parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    arguments = {key: _content(value) for key, value in zip(positional, node.args, strict=False)}
    arguments |= {keyword.arg: _content(keyword.value) for keyword in node.keywords if keyword.arg}
    name = dotted_name(node.func) or ast.unparse(node.func)
    yield from _wrong_arguments(f"`{show_id(config_id)}`", name, function, arguments, partial=False)
    calls.append(Call(config_id, name, function, arguments))


def _content(node: ast.expr) -> str:
    """An argument in an expression as config content of its own: `$` and its source, references as they were."""

    class Restore(ast.NodeTransformer):
        def visit_Subscript(self, subscript: ast.Subscript) -> ast.AST:
            is_reference = isinstance(subscript.value, ast.Name) and subscript.value.id == LOCAL_REFERENCES
            if is_reference and isinstance(subscript.slice, ast.Constant):
                return ast.Name(id=f"@{subscript.slice.value!s}", ctx=ast.Load())
            return self.generic_visit(subscript)

    return "$" + ast.unparse(Restore().visit(ast.parse(ast.unparse(node), mode="eval")))
