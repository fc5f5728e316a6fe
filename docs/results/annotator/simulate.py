"""Annotators that are simulated: `python docs/results/annotator/simulate.py {clicks,annotator} --help`.

`clicks`: on each test frame, one to five clicks at the middle of the largest error, as a person would place them.
`annotator`: starting from a few labelled frames, some more a round, chosen by the server's strategy or at random; after
each round the network is trained from the same start on all labels so far, and measured on the test frames.
Neither chooses anything on the test list.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from cmunet_monai.files.atomic import atomic_path, write_csv_atomic, write_text_atomic
from cmunet_monai.files.label import read_label
from cmunet_monai.label.clicks import correct_mask
from cmunet_monai.label.fine_tuning import dice, run_bundle
from cmunet_monai.label.planes import read_planes
from cmunet_monai.label.segmenter import Segmenter, mask_of
from cmunet_monai.label.uncertainty import border_entropy, choose_next
from cmunet_monai.metrics.intervals import hierarchical_bootstrap
from cmunet_monai.readers import load_rows

logger = logging.getLogger(__name__)

STRATEGIES = ("border_entropy", "random")
Row = Mapping[str, Any]


def next_click(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[tuple[int, int], bool] | None:
    """Where a person would click next: the innermost pixel of the largest connected error.

    Args:
        mask, reference: (W, H). Not modified.
    Returns:
        Its index, and whether it is vessel; None where the two masks are the same.
    """
    parts, count = label(mask != reference)
    if not count:
        return None
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    # a frame of nothing around it: at the edge of the picture an error ends too
    inside = distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    first, second = (int(x) for x in np.unravel_index(np.argmax(inside), inside.shape))
    return (first, second), bool(reference[first, second])


def simulate_clicks(
    probability: NDArray[np.float32], frame: NDArray[np.generic], reference: NDArray[np.bool_], *, clicks: int = 5
) -> list[float]:
    """Dice before any click and after each of `clicks`, every one placed on the mask that the last one gave.

    Args:
        probability: (W, H) of vessel. Not modified.
        frame: (W, H) grey levels. Not modified.
        reference: (W, H). Not modified.
        clicks: how many.
    """
    start = mask_of(probability[..., None])[..., 0]
    mask, found = start, [dice(start > 0, reference)]
    placed: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for _ in range(clicks):
        chosen = next_click(mask > 0, reference)
        # a click that is there already would say the same again
        if chosen is not None and chosen[0] not in placed[chosen[1]]:
            placed[chosen[1]].append(chosen[0])
            mask = correct_mask(probability, start, frame=frame, on=placed[True], off=placed[False])
        found.append(dice(mask > 0, reference))
    return found


def choose_rows(
    strategy: str,
    pool: Sequence[Row],
    labelled: Sequence[Row],
    *,
    count: int,
    score: Callable[[Row], float],
    rng: np.random.Generator,
) -> list[Row]:
    """The rows of the pool that are labelled next.

    Args:
        strategy: `border_entropy`, by the server's own choice, or `random`.
        pool: rows with `id` and, where they are known, `patient_id` or `group`.
        labelled: rows that are labelled already.
        count: how many.
        score: of a row; asked of the others of the pool, with `border_entropy` alone.
        rng: of `random`.
    """
    done = {row["id"] for row in labelled}
    free = {row["id"]: row for row in pool if row["id"] not in done}
    if strategy == "random":
        return [free[name] for name in rng.permutation(sorted(free))[:count]]
    groups = {row["id"]: group_of(row) for row in pool}
    scores: dict[str, float | None] = {name: score(row) for name, row in free.items()}
    taken = [*done]
    chosen: list[Row] = []
    while scores and len(chosen) < count:
        name = choose_next(scores, groups, taken, {})
        assert name is not None
        scores.pop(name)
        taken.append(name)
        chosen.append(free[name])
    return chosen


def group_of(row: Row) -> str:
    return str(row.get("patient_id") or row.get("group") or row["id"])


def simulate_annotator(
    bundle: Path,
    pool: Sequence[Row],
    test: Sequence[Row],
    output: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int = 5,
    count: int = 6,
    max_epochs: int = 150,
    learning_rate: float = 0.002,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Dice of every test frame after every round, by strategy and seed; both strategies share their first labels.

    A round that is finished is not done again.

    Returns:
        Rows `seed, strategy, labelled, id, group, dice`, also written to `output`/dice.csv.
    """
    table: list[dict[str, Any]] = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(pool))[:count]
        for strategy in STRATEGIES:
            labelled, rng = [pool[index] for index in order], np.random.default_rng(1000 + seed)
            for number in range(rounds + 1):
                # the first round is the same for both
                run = output / f"seed_{seed}" / (strategy if number else "start") / f"round_{number}"
                if not (run / "dice.json").is_file():
                    run.mkdir(parents=True, exist_ok=True)
                    write_text_atomic(run / "datalist.json", json.dumps({"training": labelled, "validation": []}))
                    run_bundle(
                        bundle,
                        run,
                        device=device,
                        pretrained_weights=str(bundle / "models" / "model.safetensors"),
                        max_epochs=max_epochs,
                        learning_rate=learning_rate,
                        seed=seed,
                        batch_size=min(8, len(labelled)),
                    )
                segmenter = Segmenter(bundle, weights=run / "model.safetensors", device=device)
                if not (run / "dice.json").is_file():
                    found = {row["id"]: _dice_of(segmenter, row) for row in test}
                    write_text_atomic(run / "dice.json", json.dumps(found, indent=1) + "\n")
                measured = json.loads((run / "dice.json").read_text(encoding="utf-8"))
                table += [
                    {"seed": seed, "strategy": strategy, "labelled": len(labelled), "id": row["id"]}
                    | {"group": group_of(row), "dice": measured[row["id"]]}
                    for row in test
                ]
                if number < rounds:
                    score = _score(segmenter)
                    labelled = [
                        *labelled,
                        *choose_rows(strategy, pool, labelled, count=count, score=score, rng=rng),
                    ]
    write_csv_atomic(output / "dice.csv", table)
    return table


def compare(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean Dice of both strategies at each number of labels, and their paired difference with its 95% interval over
    seeds and groups of images."""
    rows = []
    for labelled in sorted({row["labelled"] for row in table}):
        here = [row for row in table if row["labelled"] == labelled]
        names = list(dict.fromkeys(row["id"] for row in here))
        group = {row["id"]: row["group"] for row in here}
        seeds = sorted({row["seed"] for row in here})
        cells = {(row["strategy"], row["seed"], row["id"]): row["dice"] for row in here}
        ours, random = (
            np.array([[cells[strategy, seed, name] for name in names] for seed in seeds]) for strategy in STRATEGIES
        )
        difference = hierarchical_bootstrap(ours, random, groups=[group[name] for name in names])
        rows.append(
            {"labelled": labelled, "border_entropy": float(ours.mean()), "random": float(random.mean())}
            | {"difference": difference.mean, "lower": difference.lower, "upper": difference.upper}
        )
    return rows


def draw_comparison(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG: Dice against labelled frames, and the paired difference with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    labelled = [row["labelled"] for row in rows]
    for strategy, line in zip(STRATEGIES, ("-o", "--s"), strict=True):
        left.plot(labelled, [row[strategy] for row in rows], line, label=strategy)
    left.set(xlabel="labelled frames", ylabel="mean Dice on the test frames")
    left.legend()
    middle = [row["difference"] for row in rows]
    reach = [[row["difference"] - row["lower"] for row in rows], [row["upper"] - row["difference"] for row in rows]]
    right.errorbar(labelled, middle, yerr=reach, fmt="o", capsize=3)
    right.axhline(0, color="0.5", linewidth=1)
    right.set(xlabel="labelled frames", ylabel="Dice, border_entropy less random (95%)")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _dice_of(segmenter: Segmenter, row: Row) -> float:
    mask = mask_of(segmenter.probabilities(row["image"]), threshold=segmenter.threshold)
    return dice(mask > 0, read_label(row["label"]).classes > 0)


def _score(segmenter: Segmenter) -> Callable[[Row], float]:
    return lambda row: border_entropy(segmenter.probabilities(row["image"], flips=True)[..., 0])


def _click_table(segmenter: Segmenter, rows: Sequence[Row], clicks: int) -> list[dict[str, Any]]:
    table = []
    for row in rows:
        probability, frame = segmenter.probabilities(row["image"])[..., 0], read_planes(row["image"])[..., 0]
        found = simulate_clicks(probability, frame, read_label(row["label"]).classes[..., 0] > 0, clicks=clicks)
        table.append({"id": row["id"], **{f"clicks_{number}": value for number, value in enumerate(found)}})
    return table


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("clicks", "annotator"))
    parser.add_argument("--bundle", type=Path, required=True, help="with models/model.safetensors, the start")
    parser.add_argument("--datalist", type=Path, required=True)
    parser.add_argument("--dataset-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="so many test frames, the first")
    parser.add_argument("--max-epochs", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    frames = arguments.dataset_dir.resolve()  # each round has a data list of its own
    test = load_rows(arguments.datalist, "test", frames, labelled=True)[: arguments.limit]
    if arguments.what == "clicks":
        table = _click_table(Segmenter(arguments.bundle), test, 5)
        write_csv_atomic(arguments.output / "clicks.csv", table)
        for name in list(table[0])[1:]:
            logger.info("%s: mean Dice %.4f", name, np.mean([row[name] for row in table]))
        return 0
    pool = load_rows(arguments.datalist, "training", frames, labelled=True)
    found = simulate_annotator(
        arguments.bundle,
        pool,
        test,
        arguments.output,
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        max_epochs=arguments.max_epochs,
    )
    rows = compare(found)
    write_csv_atomic(arguments.output / "comparison.csv", rows)
    draw_comparison(rows, arguments.output / "comparison.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
