"""What the server works on: a copy of the bundle, and frames with names that MONAI Label can carry.

MONAI Label cuts names at dots, writes labels and a registry into the folder of the frames, takes whatever a request
names from its working directory, and knows no pseudonyms. So it gets folders of its own:

    frames/       ID.png, ID.nii.gz; labels/TAG/ and datastore_v2.json by MONAI Label
    NAME/         the bundle; training replaces its weights
    app/          main.py, and logs/ by MONAI Label
    empty/        the server's working directory
    temporary/    uploads and masks under way; emptied at each start
    frames.json   id -> patient or group
    scores.json   id -> what active learning goes by
    training/     one folder a training
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from cmunet_monai.files.atomic import atomic_path, write_text_atomic
from cmunet_monai.files.nifti import as_nifti, is_nifti
from cmunet_monai.handover.extract import extract_package
from cmunet_monai.handover.pictures import plain_picture
from cmunet_monai.handover.verify import verify_package
from cmunet_monai.label.planes import read_planes, suffix_of, write_nifti
from cmunet_monai.label.segmenter import WEIGHTS
from cmunet_monai.networks import file_digest
from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.readers.frame_folder import find_frames, report_passed_over, run_rows
from cmunet_monai.xa.errors import XAReadError
from cmunet_monai.xa.frame_choice import Frames, check_frames
from cmunet_monai.xa.identity import read_identity
from cmunet_monai.xa.run import read_frames

logger = logging.getLogger(__name__)

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAIN = '"""Found by MONAI Label."""\n\nfrom cmunet_monai.label.app import LabelApp\n\n__all__ = ["LabelApp"]\n'


@dataclass(frozen=True)
class Workspace:
    """Paths in a workspace.

    Attributes:
        root: its folder.
        bundle_name: name of the bundle's folder, which is the model's name.
    """

    root: Path
    bundle_name: str

    @property
    def frames(self) -> Path:
        return self.root / "frames"

    @property
    def bundle(self) -> Path:
        return self.root / self.bundle_name

    @property
    def app(self) -> Path:
        return self.root / "app"

    @property
    def empty(self) -> Path:
        return self.root / "empty"

    @property
    def temporary(self) -> Path:
        return self.root / "temporary"

    @property
    def scores(self) -> Path:
        return self.root / "scores.json"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def key(self) -> Path:
        """Path of the secret key of the pseudonyms; it lies beside the workspace, never inside it."""
        return Path(f"{self.root}.key")

    def groups(self) -> dict[str, str]:
        """Patient or group of each frame that was prepared."""
        rows = json.loads((self.root / "frames.json").read_text(encoding="utf-8"))
        return {name: row["group"] for name, row in rows.items()}

    @staticmethod
    def open(root: str | os.PathLike[str]) -> "Workspace":
        """A workspace that was prepared.

        Raises:
            FileNotFoundError: if there is none.
        """
        path = Path(root) / "workspace.json"
        if not path.is_file():
            raise FileNotFoundError(f"no workspace at {root}: `cmunet label` makes one")
        return Workspace(Path(root), json.loads(path.read_text(encoding="utf-8"))["bundle"])


def prepare_workspace(
    root: str | os.PathLike[str],
    studies: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    frames: Frames | int = "fullest",
    groups: str | os.PathLike[str] | None = None,
    require_xa: bool = True,
) -> Workspace:
    """Make the workspace, or bring it up to date: new files in the studies become frames, labels and weights stay.

    Args:
        root: folder of the workspace. Its `.key`, beside it, is the secret of the pseudonyms.
        studies: folder of PNG, NIfTI (one frame or several) and XA DICOM files, also in folders below it. Read only.
        bundle: the segmentation bundle's folder, or a zip of `cmunet package`, which is verified
            before anything of it is unpacked.
        frames: of a DICOM run: `fullest`, `measure`, `all`, or numbers from 0.
        groups: a data list whose rows name `patient_id` or `group` of PNG and NIfTI files (by the end of their path).
        require_xa: take X-Ray Angiographic and Enhanced XA objects only.
    Raises:
        FileNotFoundError: if there are no studies, no frame in them, no bundle, or no weights in it.
        ValueError: if the zip is refused, the workspace holds another bundle, or two files would get one name.
    """
    which, root = check_frames(frames), Path(root)
    # one frame at least, before a folder is made
    top, pictures, files, locked = find_frames(studies, leave_out=root)
    workspace = _prepare_bundle(root, Path(bundle))
    for folder in (workspace.frames, workspace.app, workspace.empty, workspace.training):
        folder.mkdir(exist_ok=True)
    write_text_atomic(workspace.app / "main.py", MAIN)
    lost: dict[str, str] = {}
    known = _group_of_files(groups)
    rows = _prepare_pictures(workspace, top, pictures, known, lost)
    if files:
        rows |= _prepare_runs(workspace, top, files, which, lost, require_xa=require_xa)
    passed_over = root / "passed_over.csv"
    lost = report_passed_over(lost, locked, top, passed_over)
    if not rows:
        raise FileNotFoundError(
            f"no frame in {studies}: all {len(lost)} files were passed over, {passed_over} says why"
        )
    alone = sum(row["group"] == name for name, row in rows.items())
    if alone:
        logger.info(
            "of %d frames no patient or group is known: each counts as its own (--groups names a data list)", alone
        )
    write_text_atomic(root / "frames.json", json.dumps(rows, indent=1) + "\n")
    return workspace


def frame_id(relative: str) -> str:
    """A name of letters, digits, `_` and `-` for a file, from its path below the studies: `a/b.1.png` is `a_b_1`."""
    name = relative[: -len(suffix_of(relative))]
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[-128:]


# The bundle -----------------------------------------------------------------------------------------------------------


def _prepare_bundle(root: Path, source: Path) -> Workspace:
    """The bundle of the workspace; unpacked or copied where there is none yet."""
    if source.is_file():
        verdict = verify_package(source)
        if not verdict.accepted:
            raise ValueError(f"{source} failed verification and is not used: {'; '.join(verdict.findings[:3])}")
        name, digest = verdict.bundle, verdict.digests[WEIGHTS.as_posix()]
    else:
        if not (source / "configs" / "inference.json").is_file():
            raise FileNotFoundError(f"no bundle at {source}: it has no configs/inference.json")
        if not (source / WEIGHTS).is_file():
            raise FileNotFoundError(
                f"no weights at {source / WEIGHTS}: put a trained model.safetensors there, or name another bundle"
            )
        name, digest = source.resolve().name, str(file_digest(source / WEIGHTS))
    if not ID.fullmatch(name):
        raise ValueError(f"the bundle's folder must be named by letters, digits, `_` and `-`, got {name!r}")
    state = root / "workspace.json"
    made_with = {"bundle": name, "weights_sha256": digest}
    if state.is_file():
        before = json.loads(state.read_text(encoding="utf-8"))
        if before != made_with:
            raise ValueError(f"{root} was made with another bundle or other weights: choose another --workspace")
        return Workspace(root, name)
    root.mkdir(parents=True, exist_ok=True)
    if (root / name).exists():  # of an interrupted preparation
        shutil.rmtree(root / name)
    if source.is_file():
        extract_package(verdict, root)
    else:
        shutil.copytree(source / "configs", root / name / "configs")
        for path in (source / WEIGHTS, (source / WEIGHTS).with_suffix(".json")):
            if path.is_file():
                (root / name / WEIGHTS).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, root / name / WEIGHTS.parent / path.name)
    write_text_atomic(state, json.dumps(made_with, indent=1) + "\n")
    return Workspace(root, name)


# The frames -----------------------------------------------------------------------------------------------------------


def _prepare_pictures(
    workspace: Workspace, top: Path, pictures: list[Path], groups: Mapping[tuple[str, ...], str], lost: dict[str, str]
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for path in pictures:
        relative = path.relative_to(top).as_posix()
        name = frame_id(relative)
        if name in rows:
            raise ValueError(f"two files of the studies would get the name {name}: rename {relative}")
        target = workspace.frames / f"{name}{'.nii.gz' if is_nifti(path) else '.png'}"
        try:
            values = read_planes(path)
            if values.min() < 0:
                raise ValueError(f"grey levels must not be negative, got {values.min():g}")
            same = not target.exists() or np.array_equal(read_planes(target), values)
            if not target.exists():
                with atomic_path(target) as temporary:
                    if is_nifti(path):
                        write_nifti(values, temporary, like=path)
                    else:
                        temporary.write_bytes(plain_picture(path)[1])
        except (OSError, ValueError) as error:
            lost[relative] = str(error).replace(str(path), path.name)
            continue
        if not same:
            raise ValueError(
                f"{relative} is another picture than the one that {workspace.root} has as {name}, with its label: "
                "choose another --workspace, or another name"
            )
        parts = path.resolve().parts
        ends = (parts[first:] for first in range(len(parts)))  # the one that says most of the path goes first
        rows[name] = {"group": next((groups[end] for end in ends if end in groups), name)}
    return rows


def _prepare_runs(
    workspace: Workspace, top: Path, files: list[Path], frames: Frames, lost: dict[str, str], *, require_xa: bool
) -> dict[str, dict[str, Any]]:
    pseudonyms = Pseudonyms.open(workspace.key, output=workspace.root)
    rows: dict[str, dict[str, Any]] = {}
    for row in run_rows(files, top, pseudonyms, frames, lost, require_xa=require_xa):
        target = workspace.frames / f"{row['id']}.nii.gz"
        try:
            with open(row["image"], "rb") as stream:
                identity = read_identity(stream)
            if not target.exists():
                (frame,) = read_frames(row["image"], [row["frame_index"]], require_xa=require_xa, windowed=False)
                with atomic_path(target) as temporary:
                    nibabel.save(as_nifti(frame, row["spacing_mm"]), temporary)
        except XAReadError as error:
            lost[row["id"]] = str(error)
            continue
        group = row["run"]
        if identity.patient_id:
            group = pseudonyms.patient(identity.patient_id, identity.issuer)
        elif identity.study_instance_uid:
            group = pseudonyms.study(identity.study_instance_uid)
        rows[row["id"]] = {"group": group}
    return rows


def _group_of_files(datalist: str | os.PathLike[str] | None) -> dict[tuple[str, ...], str]:
    """Parts of an image's path as the data list has it -> its patient or group."""
    if datalist is None:
        return {}
    if not Path(datalist).is_file():
        raise FileNotFoundError(f"no data list at {datalist}")
    try:
        lists = json.loads(Path(datalist).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{datalist} is not valid JSON (cut, or nested too deep?): {error}") from None
    if not isinstance(lists, dict):
        raise ValueError(f"{datalist} is no data list: a JSON object of lists is expected")
    rows = [row for rows in lists.values() if isinstance(rows, list) for row in rows if isinstance(row, dict)]
    named = {row["image"]: row.get("patient_id") or row.get("group") for row in rows if "image" in row}
    if not any(named.values()):
        raise ValueError(f"{datalist} names no `patient_id` or `group` of any image")
    return {Path(image).parts: str(group) for image, group in named.items() if group}


def check_id(name: Any, *, what: str = "image") -> str:
    """`name` where it is one that a frame or tag can have.

    Raises:
        ValueError: otherwise; such a name could lead out of the folder.
    """
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise ValueError(f"`{what}` must be 1 to 128 letters, digits, `_` and `-`, got {str(name)[:80]!r}")
    return name
