"""What a run of a study was: `run.json`, beside its results, for the report."""

from pathlib import Path
from typing import Any, Literal

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.study.json_file import JsonObject

RECORD = "run.json"
Kind = Literal["pre-training", "choice", "final fit", "evaluation"]


class RunRecord(JsonObject):
    """A finished run of a bundle.

    Attributes:
        kind: what the run was for. part: which of several of its kind, such as a rate and a fold.
        method, labels, draw: of which cell; no label set and draw where it serves all of them.
        folder: of its results, relative to the study's.
        command: what was run. settings: its options, with the digests of its configs, data list and weights.
        epochs, steps: those trained, and their optimizer steps; None where its log does not say.
        seconds: of a training, its epochs at their median, since a pause is not the method's cost; of another run, as
            measured; None where it was not.
        curves: column of a log -> (epoch, value).
        weights: what stands beside the weights that it made, their digest among it.
        versions: of the packages that it ran with; None of a run of an earlier version, which did not write them down.
    """

    kind: Kind
    method: str
    labels: str | None = None
    draw: int | None = None
    part: str = ""
    folder: str
    command: tuple[str, ...]
    settings: dict[str, Any]
    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    curves: dict[str, tuple[tuple[float, float], ...]] = {}
    weights: dict[str, Any] = {}
    versions: dict[str, str] | None = None

    def write(self, output_dir: Path) -> None:
        """Into its folder in the study's `output_dir`, whole or not at all."""
        write_text_atomic(output_dir / self.folder / RECORD, self.model_dump_json(indent=2) + "\n")


def read_records(output_dir: Path) -> list[RunRecord]:
    """Of all finished runs of a study; a folder that was moved aside is none of its runs.

    Raises:
        ValueError: if a record is broken; its file and place are named.
    """
    paths = [
        path
        for pattern in ("pretraining/*", "labels_*/draw_*/*/*", "labels_*/draw_*/*/choice/*/*")
        for path in sorted(output_dir.glob(f"{pattern}/{RECORD}"))
    ]
    records = {path: RunRecord.read(path) for path in paths}
    return [record for path, record in records.items() if output_dir / record.folder == path.parent]
