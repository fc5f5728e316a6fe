"""Prepare ARCADE as it is published: frames, mask PNGs and datalist.json.

Reads SOURCE/<task>/<split>/images/*.png and SOURCE/<task>/<split>/annotations/<split>.json (COCO polygons), where
SOURCE holds `syntax` (vessel segments) and `stenosis`. The splits train, val and test are read, whichever exist:
`train` becomes the list `training`; `val` and, where it is there, the published `test` become the list `test`, on
which nothing may be chosen. A row's `source` names the file it came from.

labels:
  vessel    (task syntax) 255 where any polygon lies, else 0
  segments  (task syntax) the class index 1 to 25; polygons are painted from the largest to the smallest area, so that
            the smaller one stands on top where two overlap; the names are in datalist.json under `label_values`
  stenosis  (task stenosis, category 26) 255 where a stenosis lies, else 0
A pixel belongs to a polygon if its centre lies inside it; column j's centre is at x = j + 0.5 (0 and the width are the
frame's edges, as in the published coordinates). Measured on 6,671 published polygons: the painted pixels are their
area within 0.05% in total, and within 2% for 99 polygons of 100.

ARCADE names no patients. Every row has a `group`, shared by frames that show the same vessels in the same view
(correlation of the detail inside the irradiated field of at least 0.39, at any shift of up to an eighth of the side;
frames of other vessels reach 0.38). Rows to train on are dropped, and listed under `dropped`, if their group holds a
test row (near_duplicate), or if their shutters stand where a test row's do (same_shutters: fields below 90% of the
frame with an IoU of at least 0.94; perhaps the same examination, so a precaution). Dropped frames are not written.

Everything is checked before anything is written; datalist.json is written last. The same command again changes nothing.
"""

import argparse
import filecmp
import io
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.verbs import add_input
from data_prep.datalist import Row, datalist_text, join_faults, load_image, read_json_object, write_datalist
from data_prep.near_duplicates import (
    SAME_CONTENT_CORRELATION,
    SAME_SHUTTER_IOU,
    SHUTTERED_FIELD_SHARE,
    Pair,
    connected_groups,
    content_pairs,
    same_shutter_pairs,
    thumbnail,
)

LABELS = ("vessel", "segments", "stenosis")
LIST_OF_SPLIT = {"train": "training", "val": "test", "test": "test"}
STENOSIS_CATEGORY = 26
SEGMENT_CATEGORIES = range(1, 26)


@dataclass(frozen=True)
class Polygon:
    """One closed outline; `vertices` is (N, 2), x and y in px, (0, 0) is the frame's upper left corner."""

    category: int
    vertices: NDArray[np.float64]

    @property
    def area_px(self) -> float:
        """The enclosed area by the shoelace formula, in square pixels."""
        x, y = self.vertices.T
        return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


@dataclass(frozen=True)
class AnnotatedFrame:
    """One frame of the published set."""

    id: str
    split: str
    image: Path
    annotation: Path
    width: int
    height: int
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True)
class AnnotatedSplit:
    """One split of one task: its frames and the names of its categories."""

    frames: tuple[AnnotatedFrame, ...]
    category_names: Mapping[int, str]


@dataclass(frozen=True)
class _Checked:
    """A frame that passed all checks, ready to be written."""

    frame: AnnotatedFrame
    thumbnail: NDArray[np.float32]
    label_png: bytes | None
    image_png: bytes | None
    """The frame encoded anew, where it is not stored as a PNG of one channel."""


@dataclass(frozen=True)
class _TestMatch:
    reason: str
    test: int
    score: float | None
    """None where the two are in one group through further frames only."""


@dataclass(frozen=True)
class Dropped:
    """A frame that would have been trained on, but resembles a test frame."""

    id: str
    source: str
    list: str
    reason: str
    test_id: str
    score: float | None
    """Correlation or IoU; None where the two are in one group through further frames only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_input(parser, "--source", required=True, metavar="DIR", help="folder that contains syntax/ and stenosis/")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the dataset folder to write")
    parser.add_argument("--labels", choices=LABELS, default="vessel", help="content of the masks (default: vessel)")
    parser.add_argument(
        "--add-unlabelled",
        action="store_true",
        help="also put the other task's train frames, without labels, into the list `pretraining`",
    )


def run(args: argparse.Namespace) -> None:
    """Check everything, write frames and masks, write datalist.json, print the counts."""
    task, other_task = ("stenosis", "syntax") if args.labels == "stenosis" else ("syntax", "stenosis")
    splits = {split: read_split(args.source, task, split) for split in _splits_of(args.source, task)}
    names = _category_names(list(splits.values()), args.source / task)
    label_values = _label_values(args.labels, names, args.source / task)
    checked: dict[str, list[_Checked]] = {name: [] for name in ("training", "test", "pretraining")}
    for split, content in splits.items():
        checked[LIST_OF_SPLIT[split]] += _check_frames(content.frames, args.labels)
    if args.add_unlabelled:
        _splits_of(args.source, other_task)
        checked["pretraining"] += _check_frames(read_split(args.source, other_task, "train").frames, None)

    lists, dropped = _group_and_drop(checked)
    header = {
        "name": f"ARCADE {task}",
        "labels": args.labels,
        "label_values": label_values,
        "splits": {split: LIST_OF_SPLIT[split] for split in splits},
        "grouping": {
            "near_duplicate": f"correlation of the detail inside the field >= {SAME_CONTENT_CORRELATION}",
            "same_shutters": f"fields below {SHUTTERED_FIELD_SHARE} of the frame with an IoU >= {SAME_SHUTTER_IOU}; "
            "only between a row to train on and a test row",
            "note": "no patient identity is published: groups are near-duplicates, not patients",
        },
        "counts": {
            **{name: len(rows) for name, rows in lists.items()},
            "dropped": len(dropped),
            "groups": len({row.group for rows in lists.values() for row in rows}),
        },
        "dropped": [asdict(frame) for frame in dropped],
    }
    _write(args.output, lists, header, [frame for frames in checked.values() for frame in frames])
    for name, rows in lists.items():
        print(f"{name:12} {len(rows):5} frames in {len({row.group for row in rows})} groups")
    for reason, count in sorted(Counter(frame.reason for frame in dropped).items()):
        print(f"{'dropped':12} {count:5} frames to train on, {reason} of a test frame (listed under `dropped`)")
    print(f"written to {args.output / 'datalist.json'}")


def read_split(source: Path, task: str, split: str) -> AnnotatedSplit:
    """Read one annotation file and pair it with its images, without decoding them.

    Raises:
        FileNotFoundError: the annotation file or a listed image is missing.
        ValueError: the annotation file is cut or malformed, an id or file name is given twice, or an image has no
            annotation. Up to ten faults are named.
    """
    folder = source / task / split
    annotation_path = folder / "annotations" / f"{split}.json"
    document, _ = read_json_object(annotation_path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list) or not all(isinstance(entry, dict) for entry in document[key]):
            raise ValueError(f"{annotation_path}: `{key}` must be a list of objects, got {str(document.get(key))[:60]}")
    names = {
        _integer(entry, "id", annotation_path): str(entry.get("name", entry["id"])) for entry in document["categories"]
    }
    images: dict[int, dict[str, Any]] = {}
    files: dict[str, int] = {}
    for entry in document["images"]:
        image_id = _integer(entry, "id", annotation_path)
        file_name = entry.get("file_name")
        if not isinstance(file_name, str) or Path(file_name).name != file_name:
            raise ValueError(f"{annotation_path}: image {image_id} must have a plain `file_name`, got {file_name!r}")
        if image_id in images:
            raise ValueError(f"{annotation_path}: image id {image_id} is given twice, the second time for {file_name}")
        if file_name in files:
            raise ValueError(
                f"{annotation_path}: file name {file_name} is given twice, for images {files[file_name]} and {image_id}"
            )
        images[image_id] = entry
        files[file_name] = image_id
    if not images:
        raise ValueError(f"{annotation_path} lists no images")
    polygons: dict[int, list[Polygon]] = {image_id: [] for image_id in images}
    for entry in document["annotations"]:
        image_id = _integer(entry, "image_id", annotation_path)
        if image_id not in polygons:
            raise ValueError(
                f"{annotation_path}: annotation {entry.get('id')} is for image {image_id}, which is not listed"
            )
        polygons[image_id] += _polygons(entry, task, annotation_path)

    faults = []
    missing = False
    for image_id, entry in images.items():
        image_path = folder / "images" / entry["file_name"]
        if not image_path.is_file():
            missing = True
            faults.append(f"{image_path} is missing, but listed in {annotation_path} as image {image_id}")
        elif not polygons[image_id]:
            faults.append(f"{image_path} (image {image_id}) has no annotation in {annotation_path}")
    for path in sorted((folder / "images").glob("*.png")):
        if path.name not in files:
            faults.append(f"{path} has no annotation: it is not listed in {annotation_path}")
    if faults:
        message = f"{folder} is not complete: fetch it again\n{join_faults(faults)}"
        raise FileNotFoundError(message) if missing else ValueError(message)
    frames = tuple(
        AnnotatedFrame(
            id=f"{task}_{split}_{image_id:04d}",
            split=split,
            image=folder / "images" / images[image_id]["file_name"],
            annotation=annotation_path,
            width=_integer(images[image_id], "width", annotation_path),
            height=_integer(images[image_id], "height", annotation_path),
            polygons=tuple(polygons[image_id]),
        )
        for image_id in sorted(images)
    )
    return AnnotatedSplit(frames, names)


def rasterise(polygons: Sequence[Polygon], height: int, width: int, *, values: str) -> NDArray[np.uint8]:
    """Paint polygons into a mask; a pixel belongs to a polygon if its centre lies inside.

    Args:
        polygons: painted from the largest to the smallest, so that the smaller stands on top.
        height: rows.
        width: columns.
        values: `"binary"` paints 255, `"category"` the category.
    Returns:
        (height, width) uint8; 0 where no polygon lies. What lies outside the frame is cut off.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon in sorted(polygons, key=lambda polygon: polygon.area_px, reverse=True):
        mask[inside_polygon(polygon.vertices, height, width)] = polygon.category if values == "category" else 255
    return mask


def inside_polygon(vertices: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose centre (column + 0.5, row + 0.5) lies inside a polygon, by the even-odd rule.

    A centre on the outline itself belongs to the polygon below or to the right of it, so that polygons with a common
    edge share no pixel and leave none out. OpenCV's and Pillow's polygons are no substitute: they also paint the pixels
    that the outline touches, which adds 10% and 7% to ARCADE's areas.

    Args:
        vertices: (N, 2), x and y in px from the frame's upper left corner.
        height: rows.
        width: columns.
    Returns:
        (height, width) bool.
    """
    x, y = vertices.T
    x_end, y_end = np.roll(vertices, -1, axis=0).T
    # Each edge crosses the centre lines of the rows from `first` up to, not including, `stop`.
    first = np.clip(np.ceil(np.minimum(y, y_end) - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(np.maximum(y, y_end) - 0.5), 0, height).astype(np.int64)
    edge = np.repeat(np.arange(len(vertices)), stop - first)
    rows = np.concatenate([np.arange(start, end) for start, end in zip(first, stop, strict=True)])
    crossings = x[edge] + (rows + 0.5 - y[edge]) * (x_end - x)[edge] / (y_end - y)[edge]
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    # From its first pixel on, a crossing turns inside to outside and back.
    top, bottom = first.min(), stop.max()
    turns = np.bincount((rows - top) * (width + 1) + columns, minlength=(bottom - top) * (width + 1))
    inside = np.zeros((height, width), np.bool_)
    inside[top:bottom] = np.cumsum(turns.reshape(bottom - top, width + 1)[:, :width], axis=1) % 2
    return inside


def _splits_of(source: Path, task: str) -> list[str]:
    splits = [split for split in LIST_OF_SPLIT if (source / task / split).is_dir()]
    if "train" not in splits:
        found = ", ".join(sorted(path.name for path in source.glob("*"))) if source.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"{source / task / 'train'} is missing: --input must be the folder that holds syntax/ and stenosis/ "
            f"as published; {source} holds: {found or 'nothing'}"
        )
    return splits


def _category_names(splits: Sequence[AnnotatedSplit], folder: Path) -> Mapping[int, str]:
    first = splits[0].category_names
    for split in splits[1:]:
        if split.category_names != first:
            raise ValueError(f"{folder}: the annotation files of its splits name different `categories`")
    return first


def _label_values(labels: str, names: Mapping[int, str], folder: Path) -> dict[str, str]:
    if labels != "segments":
        return {"0": "background", "255": labels}
    unnamed = [category for category in SEGMENT_CATEGORIES if category not in names]
    if unnamed:
        raise ValueError(
            f"{folder}: `categories` of the annotation files must name 1 to 25, they do not name {unnamed}"
        )
    return {"0": "background"} | {str(category): names[category] for category in SEGMENT_CATEGORIES}


def _integer(entry: Mapping[str, Any], key: str, path: Path) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{path}: expected a whole number for `{key}`, got {value!r} in {str(entry)[:120]}")
    return value


def _polygons(entry: Mapping[str, Any], task: str, path: Path) -> list[Polygon]:
    """The polygons of one COCO annotation."""
    where = f"{path}: annotation {entry.get('id')} of image {entry.get('image_id')}"
    category = _integer(entry, "category_id", path)
    allowed = (STENOSIS_CATEGORY,) if task == "stenosis" else SEGMENT_CATEGORIES
    if category not in allowed:
        raise ValueError(f"{where} has category {category}, expected {allowed[0]} to {allowed[-1]} in task {task}")
    outlines = entry.get("segmentation")
    if not isinstance(outlines, list):
        raise ValueError(f"{where}: `segmentation` must be a list of polygons, got {type(outlines).__name__}")
    polygons = []
    for outline in outlines:
        is_numbers = isinstance(outline, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in outline
        )
        if not is_numbers or len(outline) % 2 or len(outline) < 6:
            raise ValueError(f"{where}: a polygon must be x, y of three or more points, got {outline!r:.80}")
        polygons.append(Polygon(category, np.array(outline, np.float64).reshape(-1, 2)))
    return polygons


def _check_frames(frames: Sequence[AnnotatedFrame], labels: str | None) -> list[_Checked]:
    """Decode and rasterise every frame; `labels=None` makes no mask.

    Raises:
        ValueError: up to ten of the frames that cannot be used.
    """
    checked, faults = [], []
    for frame in tqdm(frames, desc=f"checking {frames[0].split}", unit="frame", disable=None):
        try:
            checked.append(_check_frame(frame, labels))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError(f"{len(faults)} of {len(frames)} frames cannot be used:\n{join_faults(faults)}")
    return checked


def _check_frame(frame: AnnotatedFrame, labels: str | None) -> _Checked:
    stored = load_image(frame.image)
    is_grey = stored.mode == "L" or stored.mode.startswith("I")  # 8 or 16 bits
    image = np.asarray(stored if is_grey else stored.convert("RGB"))
    if not is_grey:
        if np.ptp(image, axis=-1).any():
            raise ValueError(f"{frame.image} must be greyscale, got a picture with colours (mode {stored.mode})")
        image = np.ascontiguousarray(image[..., 0])
    if image.shape != (frame.height, frame.width):
        raise ValueError(
            f"{frame.image} is {image.shape[1]}x{image.shape[0]} (width x height), but {frame.annotation} says "
            f"{frame.width}x{frame.height}"
        )
    image_png = None if is_grey and stored.format == "PNG" else _png(image)
    if labels is None:
        return _Checked(frame, thumbnail(image), None, image_png)
    mask = rasterise(frame.polygons, frame.height, frame.width, values="category" if labels == "segments" else "binary")
    if not mask.any():
        raise ValueError(
            f"{frame.image}: its mask touches no pixel: the {len(frame.polygons)} polygons in {frame.annotation} are "
            f"empty or lie outside the {frame.width}x{frame.height} frame"
        )
    return _Checked(frame, thumbnail(image), _png(mask), image_png)


def _png(image: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _group_and_drop(
    checked: Mapping[str, Sequence[_Checked]],
) -> tuple[dict[str, tuple[Row, ...]], tuple[Dropped, ...]]:
    """Give every frame its group, and take out frames to train on that resemble a test frame."""
    frames = [item.frame for items in checked.values() for item in items]
    list_of = [name for name, items in checked.items() for _ in items]
    thumbnails = [item.thumbnail for items in checked.values() for item in items]
    similar = content_pairs(thumbnails)
    groups = connected_groups(len(frames), similar)
    # The near-duplicate is the stronger reason.
    matches = _shutter_matches(list_of, same_shutter_pairs(thumbnails)) | _group_matches(list_of, groups, similar)
    name_of_group: dict[int, str] = {}
    for frame, group in zip(frames, groups, strict=True):
        name_of_group[group] = min(name_of_group.get(group, frame.id), frame.id)

    lists: dict[str, list[Row]] = {name: [] for name in ("pretraining", "training", "test")}
    dropped = []
    for place, frame in enumerate(frames):
        source = "/".join(frame.image.parts[-4:])
        if place in matches:
            match = matches[place]
            score = None if match.score is None else round(match.score, 3)
            dropped.append(Dropped(frame.id, source, list_of[place], match.reason, frames[match.test].id, score))
            continue
        row = Row(
            id=frame.id,
            image=f"images/{frame.id}.png",
            label=None if list_of[place] == "pretraining" else f"labels/{frame.id}.png",
            group=name_of_group[groups[place]],
            extra={"source": source},
        )
        lists[list_of[place]].append(row)
    return {name: tuple(rows) for name, rows in lists.items()}, tuple(dropped)


def _shutter_matches(list_of: Sequence[str], pairs: Sequence[Pair]) -> dict[int, _TestMatch]:
    """Place of a frame to train on -> the test frame with the most similar shutters."""
    matches: dict[int, _TestMatch] = {}
    for pair in sorted(pairs, key=lambda pair: pair.score):
        for place, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if list_of[place] != "test" and list_of[other] == "test":
                matches[place] = _TestMatch("same_shutters", other, pair.score)
    return matches


def _group_matches(list_of: Sequence[str], groups: Sequence[int], similar: Sequence[Pair]) -> dict[int, _TestMatch]:
    """Place of a frame to train on -> the most similar test frame of its group."""
    score_of = {frozenset((pair.first, pair.second)): pair.score for pair in similar}
    tests_of_group: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        if list_of[place] == "test":
            tests_of_group.setdefault(group, []).append(place)
    matches: dict[int, _TestMatch] = {}
    for place, group in enumerate(groups):
        if list_of[place] != "test" and group in tests_of_group:
            scored = [(score_of.get(frozenset((place, test))), test) for test in tests_of_group[group]]
            score, test = max(scored, key=lambda item: item[0] or -1.0)
            matches[place] = _TestMatch("near_duplicate", test, score)
    return matches


def _write(
    output: Path, lists: Mapping[str, tuple[Row, ...]], header: Mapping[str, Any], checked: Sequence[_Checked]
) -> None:
    """Write frames and masks, then the datalist: it stands there only while every file it names is whole."""
    datalist_path = output / "datalist.json"
    if datalist_path.is_file():
        labels = read_json_object(datalist_path)[0].get("labels")
        if labels != header["labels"]:
            raise ValueError(
                f"{datalist_path} was made for labels {labels!r}, not {header['labels']!r}: give another --output"
            )
        if datalist_path.read_text(encoding="utf-8") != datalist_text(lists, header):
            datalist_path.unlink()
    item_of = {item.frame.id: item for item in checked}
    rows = [row for rows in lists.values() for row in rows]
    for row in tqdm(rows, desc="writing", unit="frame", disable=None):
        item = item_of[row.id]
        _put(output / row.image, item.image_png if item.image_png is not None else item.frame.image)
        if row.label is not None and item.label_png is not None:
            _put(output / row.label, item.label_png)
    write_datalist(datalist_path, lists, header)


def _put(path: Path, content: bytes | Path) -> None:
    """Write bytes, or copy a file, unless the same is there already."""
    if isinstance(content, Path):
        if path.is_file() and filecmp.cmp(path, content, shallow=False):
            return
        with atomic_path(path) as temporary:
            shutil.copyfile(content, temporary)
    elif not path.is_file() or path.read_bytes() != content:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
