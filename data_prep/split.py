"""Split a datalist by the paper's protocol: few labelled frames to fine-tune, the other non-test frames to pre-train.

Non-test frames are the lists `training` and `pretraining`. `--ratio 79:1` takes one in 80 of the labelled frames for
fine-tuning, rounded to the nearest whole number (12 of 992, 13 of 1000). `--finetune-images 18` takes exactly 18. The
new list `pretraining` contains all other frames without their labels, and all rows of the old list `pretraining`. No
patient or
near-duplicate group is in two lists: a group with an unlabelled row is not chosen, and the folds are made of whole
groups.

Writes into the folder given as --output
  fold_0.json ...  training and validation inside the fine-tuning rows; test is empty: nothing can be chosen on it
  final.json       training holds all fine-tuning rows, validation none, test the test rows; written last
Paths in them stay relative to the dataset folder, which is that of --datalist.

--draws 3 writes draw_0, draw_1, draw_2 with these files each, seeded seed, seed + 1, seed + 2. The draws share no
group. The list `pretraining` is the same for all draws and contains no frame of any draw, so one pre-training can be
used for all of them.

--inside 100 first draws a set of 100 labelled frames, and then the draws from this set. You can then compare few labels
with many after one pre-training that has seen none of them. The set is written to inside/, with its own folds. The
draws are written beside it, to draw_0 and so on.

The choice depends on the seed and the groups' names alone, not on the order of rows: groups are taken in the order of
the SHA-256 of "seed:group". Each file records the settings, the counts and the SHA-256 of the datalist.
"""

import argparse
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.datalist import Datalist, Row, datalist_text, validate_datalist, write_datalist


@dataclass(frozen=True)
class Draw:
    """The fine-tuning rows of one draw, and the folds they are cut into."""

    seed: int
    rows: tuple[Row, ...]
    folds: tuple[tuple[Row, ...], ...]
    """The validation rows of each fold; together they are `rows`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument(
        "--datalist", type=Path, required=True, metavar="FILE", help="datalist.json of the dataset folder"
    )
    share = parser.add_mutually_exclusive_group(required=True)
    share.add_argument("--ratio", metavar="79:1", help="pre-training : fine-tuning among the labelled non-test frames")
    share.add_argument("--finetune-images", type=int, metavar="18", help="number of fine-tuning frames in one draw")
    parser.add_argument(
        "--folds", type=int, default=3, metavar="N", help="cross-validation folds inside a draw (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the first draw (default: 0)")
    parser.add_argument(
        "--draws", type=int, default=1, metavar="N", help="number of draws that share no group (default: 1)"
    )
    parser.add_argument(
        "--inside", type=int, metavar="100", help="draw the fine-tuning frames from a set of this many labelled frames"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")


def run(args: argparse.Namespace) -> None:
    """Check the datalist, draw, write the split files, print the counts."""
    if args.draws < 1:
        raise ValueError(f"--draws must be 1 or more, got {args.draws}")
    datalist = validate_datalist(args.datalist)
    if datalist.lists["validation"]:
        raise ValueError(
            f"{args.datalist}: the list `validation` has {len(datalist.lists['validation'])} rows, expected none: "
            f"split makes the validation rows itself; move them to `training` or out of the file"
        )
    labelled = datalist.lists["training"]
    count = args.finetune_images if args.ratio is None else images_for_ratio(args.ratio, len(labelled))
    if count < 1:
        raise ValueError(f"--finetune-images must be 1 or more, got {count}")
    try:
        outer = _outer_set(datalist, args.inside, count=count * args.draws, folds=args.folds, seed=args.seed)
        choosable = datalist if outer is None else replace(datalist, lists={**datalist.lists, "training": outer.rows})
        draws = draw_splits(choosable, count=count, folds=args.folds, seed=args.seed, draws=args.draws)
    except ValueError as error:
        raise ValueError(f"{args.datalist}: {error}") from error
    splits = {
        args.output if args.draws == 1 and outer is None else args.output / f"draw_{n}": draw
        for n, draw in enumerate(draws)
    }
    if outer is not None:
        splits[args.output / "inside"] = outer
    drawn = {row.id for draw in splits.values() for row in draw.rows}
    non_test = datalist.lists["pretraining"] + datalist.lists["training"]
    pretraining = _by_id(row.without_label() for row in non_test if row.id not in drawn)
    settings = {
        "ratio": args.ratio,
        "finetune_images": count,
        "folds": args.folds,
        "seed": args.seed,
        "draws": args.draws,
    } | ({} if args.inside is None else {"inside": args.inside})
    files = {}
    for number, (folder, draw) in enumerate(splits.items()):
        for name, lists in _lists_of(draw, pretraining, datalist.lists["test"]).items():
            header = {
                "name": f"{datalist.header.get('name', args.datalist.name)}, split {name}",
                "source_datalist": args.datalist.name,
                "source_sha256": datalist.sha256,
                "settings": {**settings, "draw": number, "draw_seed": draw.seed},
                "counts": {list_name: len(rows) for list_name, rows in lists.items()},
            }
            files[folder / f"{name}.json"] = (lists, header)
    _write(args.output, files)
    print(f"{len(pretraining)} frames to pre-train, {len(datalist.lists['test'])} test frames")
    for number, draw in enumerate(splits.values()):
        sizes = " + ".join(str(len(fold)) for fold in draw.folds)
        title = "the set around the draws" if draw is outer else f"draw {number}"
        print(f"{title} (seed {draw.seed}): {len(draw.rows)} frames to fine-tune, folds {sizes}")
    print(f"written to {args.output}")


def _outer_set(datalist: Datalist, inside: int | None, *, count: int, folds: int, seed: int) -> Draw | None:
    if inside is None:
        return None
    if inside < count:
        raise ValueError(f"--inside must be at least the {count} frames of all draws together, got {inside}")
    return draw_splits(datalist, count=inside, folds=folds, seed=seed, draws=1)[0]


def images_for_ratio(ratio: str, labelled: int) -> int:
    """The number of fine-tuning frames for a ratio such as "79:1", to the nearest, halves up.

    Raises:
        ValueError: not two positive whole numbers, or no frame comes out.
    """
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", ratio)
    if match is None:
        raise ValueError(f"--ratio must be two positive whole numbers such as 79:1, got {ratio!r}")
    pretraining, finetuning = int(match[1]), int(match[2])
    parts = pretraining + finetuning
    count = (2 * labelled * finetuning + parts) // (2 * parts)
    if count == 0:
        raise ValueError(
            f"--ratio {ratio} gives 0 fine-tuning frames, since there are {labelled} labelled non-test frames: "
            "choose a larger share, or skip `split` if you have no labels"
        )
    return count


def draw_splits(datalist: Datalist, *, count: int, folds: int, seed: int, draws: int) -> list[Draw]:
    """Draw `draws` times `count` labelled rows, whole groups only, no group twice.

    Raises:
        ValueError: too few rows, no set of whole groups of that size, or more folds than groups.
    """
    if folds < 2:
        raise ValueError(f"--folds must be 2 or more, got {folds}")
    unlabelled_units = {row.unit for row in datalist.lists["pretraining"]}
    rows_of_unit: dict[str, list[Row]] = {}
    for row in datalist.lists["training"]:
        if row.unit not in unlabelled_units:
            rows_of_unit.setdefault(row.unit, []).append(row)
    available = sum(map(len, rows_of_unit.values()))
    if available < draws * count:
        blocked = len(datalist.lists["training"]) - available
        raise ValueError(
            f"{draws} x {count} fine-tuning frames were requested, but only {available} labelled frames are available"
            + (f" ({blocked} more share a group with `pretraining` rows)" if blocked else "")
        )
    result = []
    for draw_seed in range(seed, seed + draws):
        ordered = sorted(rows_of_unit, key=lambda unit: _rank(draw_seed, unit))
        chosen = _units_for(count, {unit: len(rows_of_unit[unit]) for unit in ordered})
        result.append(Draw(draw_seed, _rows(chosen, rows_of_unit), _folds(chosen, rows_of_unit, folds)))
        for unit in chosen:
            del rows_of_unit[unit]
    return result


def _rank(seed: int, unit: str) -> bytes:
    """A random order that no library version can change, and in which rows added later do not move the others."""
    return hashlib.sha256(f"{seed}:{unit}".encode()).digest()


def _units_for(count: int, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Whole groups of `count` rows together, from the front of `sizes`; of groups of one row, the first `count`."""
    units = list(sizes)
    # Bit n of reachable[k] says whether some of the first k groups have n rows together.
    reachable = [1]
    for unit in units:
        reachable.append((reachable[-1] | reachable[-1] << sizes[unit]) & (2 << count) - 1)
        if reachable[-1] >> count:
            break
    else:
        raise ValueError(
            f"no set of whole groups has exactly {count} frames (they have {min(sizes.values())} to "
            f"{max(sizes.values())} each); the nearest number below is {reachable[-1].bit_length() - 1}"
        )
    chosen = []
    remaining = count
    for place in reversed(range(len(reachable) - 1)):
        if not reachable[place] >> remaining & 1:
            chosen.append(units[place])
            remaining -= sizes[units[place]]
    return tuple(reversed(chosen))


def _folds(units: Sequence[str], rows_of_unit: Mapping[str, Sequence[Row]], folds: int) -> tuple[tuple[Row, ...], ...]:
    """Deal whole groups, the largest first, each to the fold with the fewest rows."""
    if len(units) < folds:
        raise ValueError(f"{folds} folds asked for, but the fine-tuning frames are in {len(units)} groups only")
    parts: list[list[str]] = [[] for _ in range(folds)]
    sizes = [0] * folds
    for unit in sorted(units, key=lambda unit: -len(rows_of_unit[unit])):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(unit)
        sizes[smallest] += len(rows_of_unit[unit])
    return tuple(_rows(part, rows_of_unit) for part in parts)


def _rows(units: Sequence[str], rows_of_unit: Mapping[str, Sequence[Row]]) -> tuple[Row, ...]:
    return _by_id(row for unit in units for row in rows_of_unit[unit])


def _by_id(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: row.id))


def _lists_of(draw: Draw, pretraining: tuple[Row, ...], test: tuple[Row, ...]) -> dict[str, dict[str, tuple[Row, ...]]]:
    """File name without ending -> its four lists; `final` last."""
    files = {}
    for number, validation in enumerate(draw.folds):
        held_out = {row.id for row in validation}
        training = tuple(row for row in draw.rows if row.id not in held_out)
        files[f"fold_{number}"] = {
            "pretraining": pretraining,
            "training": training,
            "validation": validation,
            "test": (),
        }
    files["final"] = {"pretraining": pretraining, "training": draw.rows, "validation": (), "test": _by_id(test)}
    return files


def _write(output: Path, files: Mapping[Path, tuple[Mapping[str, tuple[Row, ...]], Mapping[str, Any]]]) -> None:
    """Write all files; if any changes, the old ones go first, so that two splits are never mixed."""
    present = {path for pattern in ("fold_*.json", "final.json") for path in output.rglob(pattern)}
    others = sorted(present - files.keys())
    if others:
        raise ValueError(f"{output} holds another split ({others[0]}): give a new --output folder or remove that one")
    if any(path.read_text(encoding="utf-8") != datalist_text(*files[path]) for path in present):
        for path in sorted(present):
            path.unlink()
    for path, (lists, header) in files.items():
        write_datalist(path, lists, header)
