"""The command line of `python -m monai.bundle run`, read with MONAI's own signature and its own parser (fire)."""

import functools
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import fire
from fire.parser import DefaultParseValue
from monai.bundle import ConfigWorkflow, run, update_kwargs
from monai.utils import ensure_tuple

from cmunet_monai.check.misread import misread
from cmunet_monai.check.names import show_id

# What `run` passes on to the workflow besides overrides of the config.
_SETTINGS = {*inspect.signature(ConfigWorkflow).parameters, "workflow_name"} - {"override"}


@dataclass(frozen=True)
class RunArguments:
    """What `monai.bundle run` makes of its command line."""

    config_files: tuple[str, ...]  # in the order in which they are merged
    overrides: dict[str, Any] = field(default_factory=dict)  # config id -> new value
    settings: dict[str, Any] = field(default_factory=dict)  # the workflow's other arguments, such as `meta_file`
    problems: tuple[str, ...] = ()  # what `run` would drop or misread without a word


def parse_arguments(argv: Sequence[str]) -> RunArguments:
    """Read the arguments of a `python -m monai.bundle run` command.

    Config files may also stand bare in front, and `--config_file` may be repeated; the latter is read as a list
    and reported, since `run` itself keeps the last one only.

    Raises:
        ValueError: without any config file, or where `--args_file` cannot be read.
        SystemExit: (2) where fire itself refuses the command line.
    """
    given: dict[str, Any] = {}

    @functools.wraps(run)
    def capture(*args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(run).bind(*args, **kwargs).arguments
        given.update(bound.pop("override", {}), **bound)

    bare = list(takewhile(lambda word: word.lower().endswith((".json", ".yaml", ".yml")), argv))
    fire.Fire(capture, command=list(argv[len(bare) :]), name="cmunet check")
    options = list(_options(argv))
    texts = dict(options)
    problems = [
        f"--{name} is given {count} times: `run` keeps the last one only"
        + (", to merge files write --config_file \"['FILE','OVERLAY']\"" if name == "config_file" else "")
        for name, count in Counter(name for name, _ in options).items()
        if count > 1
    ]
    dropped = [name for name, value in given.items() if value is None and name in texts]
    problems += [f"--{name} None: `run` drops it and keeps what the config says" for name in dropped]
    args_file = given.pop("args_file", None)
    try:
        merged = update_kwargs(args=args_file, **given)
    except (OSError, ValueError) as error:
        raise ValueError(f"--args_file {args_file}: {error}") from error
    last = ensure_tuple(merged.pop("config_file", None) or ())
    written = [DefaultParseValue(text) for name, text in options if name == "config_file" and text]
    repeated = [file for value in written for file in ensure_tuple(value)]
    files = tuple(map(str, bare + (repeated or list(last))))
    if not files:
        raise ValueError("no config file is given: --config_file FILE, or --config_file \"['FILE','OVERLAY']\"")
    if len(files) == 1 and "," in files[0]:
        files = tuple(files[0].split(","))
        problems.append(f'--config_file A,B is not merged by `run`: write --config_file "{list(files)}"')
    overrides = {name: value for name, value in merged.items() if name not in _SETTINGS}
    settings = {name: value for name, value in merged.items() if name in _SETTINGS}
    misreadings = (misread(show_id(name), value, texts.get(name)) for name, value in overrides.items())
    return RunArguments(files, overrides, settings, (*problems, *filter(None, misreadings)))


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each `--name value` and `--name=value`, the name as fire reads it; None for a value that is not there."""
    for word, after in zip(argv, [*argv[1:], "--"], strict=True):
        if word.startswith("--") and len(word) > 2:
            name, equals, text = word[2:].partition("=")
            yield name.replace("-", "_"), text if equals else None if after.startswith("--") else after
