"""The command line of `python -m monai.bundle run`, read with MONAI's own signature and its own parser (fire)."""

import functools
import inspect
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import fire
from fire.parser import DefaultParseValue
from monai.bundle import ConfigWorkflow, run, update_kwargs
from monai.utils import ensure_tuple

# What `run` passes on to the workflow besides overrides of the config.
_WORKFLOW_ARGUMENTS = {
    name
    for name, parameter in inspect.signature(ConfigWorkflow).parameters.items()
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD
} | {"workflow_name"}
_CONFIG_SUFFIX = re.compile(r"\.(json|yaml|yml)$", re.IGNORECASE)


@dataclass(frozen=True)
class RunArguments:
    """What `monai.bundle run` makes of its command line.

    Attributes:
        config_files: in the order in which they are merged.
        overrides: config id -> new value.
        settings: the other arguments of the workflow that are given (`meta_file`, `run_id`, `tracking`, ...).
        problems: what `run` would drop or misread without a word.
        texts: the overrides of the command line as they were written, before they were read as numbers and lists.
    """

    config_files: tuple[str, ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)


def parse_arguments(argv: Sequence[str]) -> RunArguments:
    """Read the arguments of a `python -m monai.bundle run` command.

    Config files may also stand bare in front, and `--config_file` may be repeated; the latter is read as a list
    and reported, since `run` itself keeps the last one only.

    Raises:
        ValueError: without any config file, or where `--args_file` cannot be read.
        SystemExit: (2) where fire itself refuses the command line.
    """
    argv, problems = _gather_config_files(list(argv))
    given: dict[str, Any] = {}

    @functools.wraps(run)
    def capture(*args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(run).bind(*args, **kwargs).arguments
        given.update(bound.pop("override", {}), **bound)

    fire.Fire(capture, command=argv, name="python -m cmunet_monai check")
    dropped = [name for name, value in given.items() if value is None and _was_given(name, argv)]
    problems += [f"--{name} None: `run` drops it and keeps what the config says" for name in dropped]
    args_file = given.pop("args_file", None)
    try:
        merged = update_kwargs(args=args_file, **given)
    except (OSError, ValueError) as error:
        raise ValueError(f"--args_file {args_file}: {error}") from error
    config_file = merged.pop("config_file", None)
    if config_file is None:
        raise ValueError("no config file is given: --config_file FILE, or --config_file \"['FILE','OVERLAY']\"")
    files = tuple(str(name) for name in ensure_tuple(config_file))
    if len(files) == 1 and "," in files[0]:
        files = tuple(files[0].split(","))
        problems.append(f'--config_file A,B is not merged by `run`: write --config_file "{list(files)}"')
    return RunArguments(
        config_files=files,
        overrides={name: value for name, value in merged.items() if name not in _WORKFLOW_ARGUMENTS},
        settings={name: value for name, value in merged.items() if name in _WORKFLOW_ARGUMENTS},
        problems=tuple(problems),
        texts=_texts(argv),
    )


def _flag_name(token: str) -> str | None:
    """The name in `--name` or `--name=value`, as fire reads it; None for anything else."""
    return token[2:].split("=", 1)[0].replace("-", "_") if token.startswith("--") and len(token) > 2 else None


def _texts(argv: Sequence[str]) -> dict[str, str]:
    """Option -> its value as it was written, in `--name value` and `--name=value`."""
    found: dict[str, str] = {}
    for token, after in zip(argv, [*argv[1:], "--"], strict=True):
        name = _flag_name(token)
        if name is not None and "=" in token:
            found[name] = token.split("=", 1)[1]
        elif name is not None and not after.startswith("--"):
            found[name] = after
    return found


def _was_given(name: str, argv: Sequence[str]) -> bool:
    return any(_flag_name(token) == name for token in argv)


def _gather_config_files(argv: list[str]) -> tuple[list[str], list[str]]:
    """Fold bare config files and repeated `--config_file` into one list argument; name every repeated argument."""
    counts = Counter(name for name in map(_flag_name, argv) if name is not None)
    problems = [
        f"--{name} is given {count} times: `run` keeps the last one only"
        + (", to merge files write --config_file \"['FILE','OVERLAY']\"" if name == "config_file" else "")
        for name, count in counts.items()
        if count > 1
    ]
    bare = 0
    while bare < len(argv) and not counts["config_file"] and _CONFIG_SUFFIX.search(argv[bare]):
        bare += 1
    files: list[Any] = list(argv[:bare])
    rest = []
    tokens = iter(argv[bare:])
    for token in tokens:
        if _flag_name(token) == "config_file" and counts["config_file"] > 1:
            value = token.split("=", 1)[1] if "=" in token else next(tokens, "")
            files.extend(ensure_tuple(DefaultParseValue(value)))
        else:
            rest.append(token)
    return (["--config_file", repr([str(name) for name in files]), *rest] if files else rest), problems
