"""Values of a config that are paths, texts and numbers, worked out without instantiating or running anything."""

import ast
import glob
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ConfigComponent, ConfigExpression, ConfigParser, ReferenceResolver

LOCAL_REFERENCES = "__local_refs"
_ROOTS = {"os": os, "pathlib": pathlib, "Path": pathlib.Path, "glob": glob} | {
    function.__name__: function for function in (bool, float, int, len, list, max, min, sorted, str, tuple)
}
# Only what reads: a `$` expression may call anything, and a check must not.
_CALLS = {
    *("bool", "float", "int", "len", "list", "max", "min", "sorted", "str", "tuple", "Path", "pathlib.Path"),
    *(f"os.path.{name}" for name in ("abspath", "basename", "dirname", "exists", "expanduser", "isdir", "isfile")),
    *("os.path.join", "os.getcwd", "glob.glob"),
}
_NODES = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.List, ast.Tuple, ast.Dict, ast.Subscript, ast.Slice),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.UnaryOp, ast.Not, ast.USub),
    *(ast.BoolOp, ast.And, ast.Or, ast.IfExp, ast.Compare, ast.cmpop, ast.JoinedStr, ast.FormattedValue),
)


class NotPlain(Exception):  # noqa: N818 (an answer, not an error)
    """The value depends on an object or on a call that a check does not make."""


def expression_source(expression: str) -> str:
    """The Python of a `$` expression, its references as `__local_refs['id']`, as MONAI evaluates it."""
    source = ReferenceResolver.normalize_id(expression[1:])
    return ReferenceResolver.id_matcher.sub(lambda match: f"{LOCAL_REFERENCES}[{match[0][1:]!r}]", source).strip()


def dotted_name(node: ast.AST) -> str | None:
    """`os.path.join` for the node that names it; None for anything but a chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        parent = dotted_name(node.value)
        return f"{parent}.{node.attr}" if parent else None
    return None


def plain_value(parser: ConfigParser, value: Any) -> Any:
    """What a piece of config comes to: literals, references, joins and conditionals of them.

    Args:
        parser: a parsed config.
        value: its content, for example `"$@dataset_dir + '/datalist.json'"`.
    Raises:
        NotPlain: where it takes a component, a call that may do more than read, or something undefined.
    """
    return _value(parser, value, ())


def _value(parser: ConfigParser, value: Any, waiting: tuple[str, ...]) -> Any:
    if ConfigComponent.is_instantiable(value):
        raise NotPlain(f"a component: {value['_target_']}")
    if isinstance(value, dict):
        return {key: _value(parser, item, waiting) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(parser, item, waiting) for item in value]
    if not isinstance(value, str):
        return value
    if ConfigExpression.is_expression(value):
        return _evaluate(parser, expression_source(value), waiting)
    references = ReferenceResolver.match_refs_pattern(value)
    return _References(parser, waiting)[next(iter(references))] if references else value


class _References(Mapping[str, Any]):
    """Values by id, worked out when asked for, so that a conditional needs only the branch it takes."""

    def __init__(self, parser: ConfigParser, waiting: tuple[str, ...]) -> None:
        self.parser, self.waiting = parser, waiting

    def __getitem__(self, config_id: str) -> Any:
        if config_id in self.waiting or config_id not in self.parser:
            raise NotPlain(f"@{config_id}")
        return _value(self.parser, self.parser[config_id], (*self.waiting, config_id))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _evaluate(parser: ConfigParser, source: str, waiting: tuple[str, ...]) -> Any:
    try:
        tree = ast.parse(source, mode="eval")
    except SyntaxError as error:
        raise NotPlain(source) from error
    _require_plain(tree)
    names = {**_ROOTS, LOCAL_REFERENCES: _References(parser, waiting), "__builtins__": {}}
    try:
        return eval(compile(tree, "<config>", "eval"), names)
    except NotPlain:
        raise
    except Exception as error:  # the expression's own failure, whatever it is: reported where it is run
        raise NotPlain(f"{source}: {error}") from error


def _require_plain(node: ast.AST) -> None:
    if isinstance(node, ast.Call):
        if dotted_name(node.func) not in _CALLS:
            raise NotPlain(ast.unparse(node))
        children: list[ast.AST] = [*node.args, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, ast.Name) and node.id not in _ROOTS and node.id not in (LOCAL_REFERENCES, "True", "False"):
        raise NotPlain(node.id)
    elif isinstance(node, _NODES):
        children = list(ast.iter_child_nodes(node))
    else:
        raise NotPlain(ast.unparse(node))
    for child in children:
        _require_plain(child)
