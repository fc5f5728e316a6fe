"""Config files as MONAI merges them: what cannot be read, what changes nothing, what refers to nothing."""

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser, ReferenceResolver
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, ID_SEP_KEY, MACRO_KEY, MERGE_KEY, merge_kv
from monai.utils import OptionalImportError, ensure_tuple

from cmunet_monai.check.arguments import RunArguments
from cmunet_monai.check.misread import misread
from cmunet_monai.check.names import nearest, show_id, some, suggestion
from cmunet_monai.check.values import NotPlain, plain_value

# MONAI and its tools read these ids by name, whether or not the config refers to them.
_READ_BY_MONAI = {
    ReferenceResolver.normalize_id(str(facts["id"]))  # type: ignore[index]
    for properties in (TrainProperties, InferProperties, MetaProperties)
    for facts in properties.values()
}


def load_file(name: str, problems: list[str]) -> dict[str, Any] | None:
    """One config file by MONAI's reader; None, and a problem that names file and line, where it cannot be read."""
    path = Path(name)
    if not path.is_file():
        found = nearest(path.name, (other.name for other in path.parent.glob("*.json")))
        problems.append(f"{name}: no such config file" + (f"; did you mean `{path.parent / found}`?" if found else ""))
        return None
    try:
        with warnings.catch_warnings(record=True) as remarks:  # MONAI only warns of a key that stands twice
            warnings.simplefilter("always")
            content = ConfigParser.load_config_file(name)
    except json.JSONDecodeError as error:
        problems.append(f"{name}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}")
        return None
    except (OSError, ValueError, OptionalImportError) as error:
        problems.append(f"{name}: {error}")
        return None
    if not isinstance(content, dict):
        problems.append(f"{name}: must hold a dictionary of config items, got a {type(content).__name__}")
        return None
    problems += [f"{name}: {remark.message}" for remark in remarks]
    return content


def all_ids(config: Any, config_id: str = "") -> Iterator[tuple[str, Any]]:
    """(id, content) of a config and everything nested in it; metadata are left out."""
    if config_id:
        yield config_id, config
    if isinstance(config, (dict, list)):
        for _, sub_id, value in ReferenceResolver.iter_subconfigs(config_id, config):
            if sub_id != ConfigParser.meta_key:
                yield from all_ids(value, sub_id)


class MergedConfig:
    """The config that `monai.bundle run` would use: files merged in order, then the overrides.

    Attributes:
        parser: MONAI's parser, parsed (macros replaced), nothing instantiated or evaluated.
        problems: what went wrong on the way; reading goes on wherever it can.
    """

    def __init__(self, arguments: RunArguments) -> None:
        self.arguments = arguments
        self.problems: list[str] = []
        self.parser = ConfigParser(config={})
        self._added: dict[str, str] = {}  # ids that nothing before defined -> who gave them
        self._overridden: dict[str, str] = {}
        contents = [(name, load_file(name, self.problems)) for name in arguments.config_files]
        self.complete = all(content is not None for _, content in contents)
        if not self.complete:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index, (name, content) in enumerate(contents):
                for key, value in (content or {}).items():
                    self._merge(key, value, overlay=f"{name}: `{show_id(key)}`" if index else None)
            self._read_metadata()
            self._known = [config_id for config_id, _ in all_ids(self.parser.config)]
            before = ConfigParser(config=copy.deepcopy(self.parser.config))
            for key, value in arguments.overrides.items():
                self._override(key, value)
        self._macro_ids = self._check_macros()
        self.parser.parse()
        self._check_texts(before)

    # Merging ----------------------------------------------------------------------------------------------------------

    def _merge(self, key: str, value: Any, *, overlay: str | None) -> None:
        config_id = ReferenceResolver.normalize_id(key.removeprefix(MERGE_KEY))
        known = config_id in self.parser
        try:
            merge_kv(self.parser, ReferenceResolver.normalize_id(key), value)
        except (KeyError, IndexError, ValueError, TypeError):
            if known:
                self.problems.append(f"{overlay or key}: a {type(value).__name__} cannot be added to what is there")
            else:
                ids = (known_id for known_id, _ in all_ids(self.parser.config))
                self.problems.append(f"{overlay or show_id(key)}: no such place{suggestion(config_id, ids)}")
            return
        if overlay and not known:
            self._added[config_id] = overlay

    def _override(self, key: str, value: Any) -> None:
        config_id = ReferenceResolver.normalize_id(key)
        who = f"--{show_id(key)}"
        before = self.parser.get(config_id)
        known = config_id in self.parser
        try:
            self.parser[config_id] = value
        except (KeyError, IndexError, ValueError, TypeError):
            self.problems.append(f"{who}: no such id{suggestion(config_id, self._known)}")
            return
        (self._overridden if known else self._added)[config_id] = who
        is_number = isinstance(before, (int, float))
        if is_number and isinstance(value, str) and not value.startswith(("$", "@", MACRO_KEY)):
            self.problems.append(f"{who} {value}: is text, where the config has {before!r}")

    def _check_texts(self, before: ConfigParser) -> None:
        """Name the options that MONAI would take for something else than the text that was meant."""
        for key, value in self.arguments.overrides.items():
            try:
                earlier = plain_value(before, before.get(ReferenceResolver.normalize_id(key)))
            except NotPlain:
                earlier = None
            problem = misread(show_id(key), value, text=self.arguments.texts.get(key), before=earlier)
            if problem:
                self.problems.append(problem)

    def _read_metadata(self) -> None:
        default = Path(self.arguments.config_files[0]).parent / "metadata.json"
        given = self.arguments.settings.get("meta_file")
        merged: dict[str, Any] = {}
        for name in ensure_tuple(given) if given else [str(default)] if default.is_file() else []:
            merged.update(load_file(str(name), self.problems) or {})
        self.parser[ConfigParser.meta_key] = merged

    # References -------------------------------------------------------------------------------------------------------

    def _check_macros(self) -> set[str]:
        """Ids that `%id` copies; what cannot be copied is named and emptied, so that the rest can be parsed."""
        used = set()
        for config_id, value in list(all_ids(self.parser.config)):
            if not isinstance(value, str) or not value.startswith((MACRO_KEY, "@", "$")):
                continue
            try:
                value = ConfigParser.resolve_relative_ids(config_id, value)
                if not value.startswith(MACRO_KEY):
                    continue
                path, target = ConfigParser.split_path_id(value[len(MACRO_KEY) :])
                if path:
                    source = load_file(path, self.problems)
                    if source is None:
                        self.parser[config_id] = None
                        continue
                else:
                    source = self.parser.get()
                    used.add(target)
                if target not in ConfigParser(config=source):
                    near = suggestion(target, (known for known, _ in all_ids(source)))
                    raise ValueError(f"`{value}` copies what is not there{near}")
            except ValueError as error:
                self.problems.append(f"`{show_id(config_id)}`: {error}")
                self.parser[config_id] = None
        return used

    def items(self) -> Iterator[tuple[str, Any]]:
        """(id, content) of everything in the parsed config but its metadata."""
        yield from all_ids(self.parser.config)

    def references(self) -> dict[str, list[str]]:
        """Referenced id -> the ids whose text refers to it."""
        found: dict[str, list[str]] = {}
        for config_id, value in self.items():
            if isinstance(value, str):
                for reference in ReferenceResolver.match_refs_pattern(value):
                    found.setdefault(reference, []).append(config_id)
        found.pop("", None)  # the matrix product of an expression
        return found

    def check_references(self) -> None:
        """Name every `@id` that is not defined, and circles of them."""
        ids = [config_id for config_id, _ in self.items()]
        known = set(ids) | {ConfigParser.meta_key}
        for reference, users in self.references().items():
            if reference not in known and not reference.startswith(ConfigParser.meta_key):
                where = some(f"`{show_id(user)}`" for user in users)
                self.problems.append(
                    f"`@{show_id(reference)}` is not defined, used in {where}{suggestion(reference, ids)}"
                )
        self._check_circles()

    def _check_circles(self) -> None:
        resolver = self.parser.ref_resolver
        finished: set[str] = set()

        def visit(config_id: str, path: tuple[str, ...]) -> None:
            if config_id in path:
                circle = (*path[path.index(config_id) :], config_id)
                self.problems.append("references in a circle: " + " -> ".join(f"`{show_id(name)}`" for name in circle))
            elif config_id not in finished:
                item = resolver.get_item(config_id)
                if item is not None:
                    for needed in resolver.find_refs_in_config(config=item.get_config(), id=config_id):
                        visit(needed, (*path, config_id))
                finished.add(config_id)

        for config_id, _ in list(self.items()):
            visit(config_id, ())

    # What changes nothing ---------------------------------------------------------------------------------------------

    def check_effects(self) -> None:
        """Name overlay keys and overrides that MONAI would take in silence and never use."""
        used = set(self.references()) | self._macro_ids | self._entry_points()
        if self.arguments.settings.get("tracking"):
            used.update(DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"])  # type: ignore[arg-type]
        elsewhere = self._ids_of_other_configs()
        for config_id, who in self._added.items():
            is_overlay = not who.startswith("--")
            if not self._has_effect(config_id, used) and not (is_overlay and config_id in elsewhere):
                candidates = [known for known in self._known if known not in self._added]
                near = suggestion(config_id, candidates)
                if not near and ID_SEP_KEY not in config_id:
                    near = f"; there are {some(self._hyper_parameters(), 30)}"
                self.problems.append(f"{who}: unknown id, it would be ignored{near}")
        for config_id, who in self._overridden.items():
            if config_id not in _READ_BY_MONAI and not self._has_effect(config_id, used):
                self.problems.append(f"{who}: changes nothing, since nothing in these configs uses it")

    def _ids_of_other_configs(self) -> set[str]:
        """Ids of the bundle's configs that are not part of this run: an overlay may serve several of them."""
        here = {Path(name).resolve() for name in self.arguments.config_files}
        ids: set[str] = set()
        for path in sorted(Path(self.arguments.config_files[0]).parent.glob("*.json")):
            if path.resolve() not in here and path.name != "metadata.json":
                ids.update(config_id for config_id, _ in all_ids(load_file(str(path), [])))
        return ids

    def _entry_points(self) -> set[str]:
        settings = self.arguments.settings
        return {
            settings.get(name, default)
            for name, default in (("init_id", "initialize"), ("run_id", "run"), ("final_id", "finalize"))
        }

    def _has_effect(self, config_id: str, used: set[str]) -> bool:
        value = self.parser.get(config_id)
        if config_id.startswith("_") or _is_import(value):
            return True
        parts = config_id.split(ID_SEP_KEY)
        ancestors = [ID_SEP_KEY.join(parts[:count]) for count in range(1, len(parts) + 1)]
        return (
            any(ancestor in used for ancestor in ancestors)
            or any(ConfigComponent.is_instantiable(self.parser.get(ancestor)) for ancestor in ancestors[:-1])
            or any(name.startswith(config_id + ID_SEP_KEY) for name in used)
        )

    def _hyper_parameters(self) -> list[str]:
        config: Mapping[str, Any] = self.parser.config or {}  # type: ignore[assignment]
        return [
            f"`{name}`"
            for name, value in config.items()
            if name not in self._added and not name.startswith("_") and not isinstance(value, dict)
        ]

    def check_entry_point(self) -> None:
        """Name the id that `run` is to run, where the config does not have it."""
        run_id = self.arguments.settings.get("run_id", "run")
        if run_id not in self.parser:
            near = suggestion(run_id, (config_id for config_id, _ in self.items()))
            self.problems.append(f"nothing to run: the config has no `{run_id}`{near}")


def _is_import(value: Any) -> bool:
    values = value if isinstance(value, list) and value else [value]
    return all(isinstance(item, str) and item.startswith(("$import ", "$from ")) for item in values)
