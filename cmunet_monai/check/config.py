"""The config of a run as MONAI merges and resolves it, and the ids in it that lead nowhere or change nothing."""

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigExpression, ConfigParser, ReferenceResolver
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, ID_SEP_KEY, MACRO_KEY, MERGE_KEY, merge_kv
from monai.utils import OptionalImportError, ensure_tuple

from cmunet_monai.bundle import is_config_text
from cmunet_monai.check.arguments import RunArguments
from cmunet_monai.check.names import show_id, some, suggestion

_BY_HABIT = ("bundle_root", "dataset_dir", "output_dir")  # options that commands give, needed or not
UNKNOWN = object()  # the value of what only a run can make
# What an expression may call in a check, since it only reads.
_READING = re.compile(
    r"(?<![\w.])(bool|float|int|len|list|max|min|sorted|str|tuple|(pathlib\.)?Path|os\.getcwd|glob\.glob"
    r"|os\.path\.(abspath|basename|dirname|exists|expanduser|isdir|isfile|join))\("
)


def load_file(
    name: str, problems: list[str], *, load: Callable[[str], Any] = ConfigParser.load_config_file
) -> dict[str, Any] | None:
    """A file's dictionary; None, and a problem that names file and line, where there is none."""
    path = Path(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # MONAI only warns of a key that stands twice
            content = load(name)
        if not isinstance(content, dict):
            raise ValueError(f"must hold a dictionary, got a {type(content).__name__}")
        return content
    except FileNotFoundError:
        near = suggestion(name, (str(other) for other in path.parent.glob("*.json")))
        problems.append(f"{name}: no such config file{near}")
    except json.JSONDecodeError as error:
        problems.append(f"{name}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}")
    except (OSError, ValueError, RecursionError, OptionalImportError, UserWarning) as error:
        problems.append(f"{name}: {error}")
    return None


def all_ids(config: Any, config_id: str = "") -> Iterator[tuple[str, Any]]:
    """(id, content) of all that is nested in a config; metadata are left out."""
    for _, sub_id, value in ReferenceResolver.iter_subconfigs(config_id, config):
        if sub_id != ConfigParser.meta_key:
            yield sub_id, value
            if isinstance(value, (dict, list)):
                yield from all_ids(value, sub_id)


def python_of(text: str) -> str:
    """The Python of a `$` expression as MONAI evaluates it, each reference a look-up in `__local_refs`."""
    return str(ReferenceResolver.update_refs_pattern(text, ReferenceResolver.match_refs_pattern(text)))[1:].strip()


class RunConfig:
    """The config that `monai.bundle run` would use: files merged in order, then the overrides.

    Attributes:
        parser: MONAI's parser, parsed, nothing instantiated or evaluated.
        problems: what went wrong on the way; reading goes on wherever it can.
        complete: whether all files could be read; where not, nothing else holds.
        needs: id -> the ids that MONAI resolves before it.
    """

    def __init__(self, arguments: RunArguments) -> None:
        self.arguments, self.problems = arguments, list(arguments.problems)
        self.parser = ConfigParser(config={})
        self._set_by: dict[str, tuple[str, bool]] = {}  # id -> who set it after the first file, and was it there before
        contents = [load_file(name, self.problems) for name in arguments.config_files]
        self.complete = None not in contents
        if self.complete:
            for name, content in zip(arguments.config_files, contents, strict=True):
                for key, value in (content or {}).items():
                    self._set(key, value, f"{name}: `{show_id(key)}`", first=content is contents[0])
            default = Path(arguments.config_files[0]).parent / "metadata.json"
            metadata = ensure_tuple(arguments.settings.get("meta_file", str(default) if default.is_file() else ()))
            self.parser[ConfigParser.meta_key] = {}
            for name in metadata:
                self.parser[ConfigParser.meta_key].update(load_file(name, self.problems) or {})
            for key, value in arguments.overrides.items():
                self._set(key, value, f"--{show_id(key)}")
            self._resolve_texts()
            items = self.parser.ref_resolver.items
            refs = ReferenceResolver.find_refs_in_config
            self.needs = {name: list(refs(item.get_config(), name)) for name, item in items.items() if name}

    def items(self) -> Iterator[tuple[str, Any]]:
        """(id, content) of everything in the config but its metadata."""
        yield from all_ids(self.parser.config)

    def mistake(self, config_id: str, problem: str) -> None:
        """Say what is wrong at an id."""
        self.problems.append(f"`{show_id(config_id)}`: {problem}")

    def _set(self, key: str, value: Any, who: str, *, first: bool = False) -> None:
        config_id = ReferenceResolver.normalize_id(key.removeprefix(MERGE_KEY))
        before, known = self.parser.get(config_id), config_id in self.parser
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                merge_kv(self.parser, ReferenceResolver.normalize_id(key), value)
        except (KeyError, IndexError, ValueError, TypeError):
            near = suggestion(config_id, (name for name, _ in self.items()))
            kind = f"a {type(value).__name__} cannot be added to what is there"
            self.problems.append(f"{who}: {kind}" if known else f"{who}: no such id{near}")
            return
        if not first:
            self._set_by[config_id] = who, known
        if isinstance(before, (int, float)) and isinstance(value, str) and not is_config_text(value):
            self.problems.append(f"{who} {value}: is text, where the config has {before!r}")

    def _resolve_texts(self) -> None:
        """Let MONAI copy macros and parse; a text that it cannot read is named and emptied, so that the rest can be."""
        texts = [(config_id, value) for config_id, value in self.items() if isinstance(value, str)]
        self._copied = {ReferenceResolver.normalize_id(value[1:]) for _, value in texts if value.startswith(MACRO_KEY)}
        for config_id, value in texts:
            try:
                text = self.parser._do_resolve(value, config_id)
                if ConfigExpression.is_expression(text):
                    ast.parse(python_of(text), mode="exec" if ConfigExpression.is_import_statement(text) else "eval")
                continue
            except SyntaxError as error:
                self.mistake(config_id, f"`{value}` is not Python: {error.msg}")
            except (KeyError, IndexError, OSError, ValueError):
                near = suggestion(value[1:], (name for name, _ in self.items()))
                self.mistake(config_id, f"`{value}` copies what is not there{near}")
            self.parser[config_id] = None
        self.parser.parse()

    # What MONAI makes of it -------------------------------------------------------------------------------------------

    def reach(self, *start: str) -> set[str]:
        """These ids and all that MONAI resolves for them."""
        found: set[str] = set()
        waiting = list(start)
        while waiting:
            if (config_id := waiting.pop()) not in found:
                found.add(config_id)
                waiting += self.needs.get(config_id, ())
        return found

    def add_expression(self, node: ast.expr) -> str:
        """Give MONAI a part of an expression as one of its own; return its id."""
        text = "$" + re.sub(r"__local_refs\['(.*?)'\]", r"@\1", ast.unparse(node))
        config_id = f"_part_{len(self.needs)}"
        self.parser.ref_resolver.add_item(ConfigExpression(text, config_id, self.parser.globals))
        self.needs[config_id] = list(ReferenceResolver.match_refs_pattern(text))
        return config_id

    def value(self, config_id: str | None) -> Any:
        """What MONAI makes of an id: None without it, `UNKNOWN` if that takes what may do more than read."""
        if config_id not in self.needs:
            return None
        if not all(map(self._only_reads, self.reach(config_id))):
            return UNKNOWN
        try:
            return self.parser.ref_resolver.get_resolved_content(config_id)
        except (RuntimeError, ValueError):  # fails in the run too, if the run comes to it
            return UNKNOWN

    def _only_reads(self, config_id: str) -> bool:
        item = self.parser.ref_resolver.get_item(config_id)
        if isinstance(item, ConfigExpression):
            return "(" not in _READING.sub("", item.get_config())
        return item is not None and not isinstance(item, ConfigComponent)

    # Ids that lead nowhere or change nothing --------------------------------------------------------------------------

    def check_references(self) -> None:
        """Name the id that is to be run where there is none, every `@id` that is not defined, and a circle of them."""
        run_id = self.arguments.settings.get("run_id", "run")
        ids = [config_id for config_id, _ in self.items()]
        if run_id not in self.parser:
            self.problems.append(f"nothing to run: the config has no `{run_id}`{suggestion(run_id, ids)}")
        users: dict[str, list[str]] = {}
        for config_id, value in self.items():
            for reference in ReferenceResolver.match_refs_pattern(value) if isinstance(value, str) else ():
                if reference not in self.needs:
                    users.setdefault(reference, []).append(f"`{show_id(config_id)}`")
        for reference, places in users.items():
            where = f"used in {some(places)}{suggestion(reference, ids)}"
            self.problems.append(f"`@{show_id(reference)}` is not defined, {where}")
        try:
            TopologicalSorter(self.needs).prepare()
        except CycleError as error:
            circle = " -> ".join(f"`{show_id(name)}`" for name in reversed(error.args[1]))
            self.problems.append(f"references in a circle: {circle}")

    def check_effects(self) -> None:
        """Name overlay keys and overrides that MONAI would take in silence and never use."""
        settings = self.arguments.settings
        entries = (("init_id", "initialize"), ("run_id", "run"), ("final_id", "finalize"))
        used = self.reach(*(settings.get(name, default) for name, default in entries)) | self._copied
        used |= {config_id for config_id, value in self.items() if ConfigExpression.is_import_statement(value)}
        if settings.get("tracking"):
            used.update(DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"])  # type: ignore[arg-type]
        old = [config_id for config_id, _ in self.items() if self._set_by.get(config_id, ("", True))[1]]
        # an overlay may serve several configs of the bundle, some of which are not part of this run
        here = {Path(name).resolve() for name in self.arguments.config_files}
        others = (
            path for path in Path(self.arguments.config_files[0]).parent.glob("*.json") if path.resolve() not in here
        )
        elsewhere = {config_id for path in others for config_id, _ in all_ids(load_file(str(path), []) or {})}
        for config_id, (who, known) in self._set_by.items():
            is_overlay = not who.startswith("--")
            if config_id.startswith("_") or any(_is_in(config_id, name) or _is_in(name, config_id) for name in used):
                continue
            if not known and not (is_overlay and config_id in elsewhere):
                top = [f"`{n}`" for n in old if re.fullmatch("[^_:][^:]*", n) and not isinstance(self.parser[n], dict)]
                near = suggestion(config_id, old) or f"; there are {some(top, 30)}"
                self.problems.append(f"{who}: unknown id, it would be ignored{near}")
            if known and not is_overlay and config_id not in _BY_HABIT:
                self.problems.append(f"{who}: changes nothing, since nothing in these configs uses it")


def _is_in(config_id: str, other: str) -> bool:
    return f"{config_id}{ID_SEP_KEY}".startswith(f"{other}{ID_SEP_KEY}")
