"""The app that MONAI Label serves: inference, clicks, training, active learning and scoring with one bundle.

MONAI Label's own bundle app takes `inference.json` and `train.json` apart. This one runs them as they are, so that a
mask from the server is that of `python -m monai.bundle run`.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from numpy.typing import NDArray

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.files.nifti import is_nifti
from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.label.clicks import correct_mask
from cmunet_monai.label.datastore import FrameDatastore
from cmunet_monai.label.fine_tuning import fine_tune, read_history
from cmunet_monai.label.planes import SUFFIXES, affine_of, read_planes
from cmunet_monai.label.refusal import RequestRefusedError
from cmunet_monai.label.segmenter import Segmenter, mask_of
from cmunet_monai.label.uncertainty import border_entropy, choose_next
from cmunet_monai.label.upload import write_mask_like
from cmunet_monai.label.workspace import Workspace, check_id

logger = logging.getLogger(__name__)

STRATEGY = "border_entropy"
LARGEST_INDEX = 1e6
Request = Mapping[str, Any]


def devices() -> list[str]:
    """The processor, and the GPUs that torch sees; the best first."""
    return [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), "cpu"]


def number_of(request: Request, name: str, default: float) -> float:
    """A number of a request, which clients send as number or text.

    Raises:
        RequestRefusedError: if it is none.
    """
    value = request.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number) or isinstance(value, bool):
        raise RequestRefusedError(f"`{name}` must be a number, got {str(value)[:40]!r}")
    return number


def device_of(request: Request) -> str:
    """The device of a request; `cuda`, which clients send by default, is the best there is.

    Raises:
        RequestRefusedError: if there is no such device.
    """
    wanted = request.get("device") or "cuda"
    if wanted == "cuda":
        return devices()[0]
    if wanted not in devices():
        raise RequestRefusedError(f"`device` must be one of {', '.join(devices())}, got {str(wanted)[:40]!r}")
    return str(wanted)


class FrameInfer(InferTask):
    """Masks of frames, by the bundle's own inference.

    Args:
        workspace: with the bundle.
        labels: name -> number in the mask.
    """

    def __init__(self, workspace: Workspace, labels: Mapping[str, int]) -> None:
        super().__init__(
            InferType.SEGMENTATION,
            dict(labels),
            dimension=2,
            description=f"Coronary arteries in X-ray angiograms; {RESEARCH_USE}",
            config={"device": devices(), "threshold": 0.5, "largest_components": 0},
        )
        self.workspace = workspace
        self.segmenters: dict[str, Segmenter] = {}
        self._config["threshold"] = self.segmenter("cpu").threshold

    def segmenter(self, device: str) -> Segmenter:
        if device not in self.segmenters:
            self.segmenters[device] = Segmenter(self.workspace.bundle, device=device)
        return self.segmenters[device]

    def is_valid(self) -> bool:
        return True

    def get_path(self, validate: bool = True) -> str:
        return str(self.segmenter("cpu").weights)

    def __call__(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Write the mask of `request["image"]` (a path) to a temporary file; return its path, and facts."""
        begin = time.perf_counter()
        image = Path(request["image"])
        try:
            segmenter = self.segmenter(device_of(request))
            mask, facts = self.mask(image, segmenter.probabilities(image), request)
        except (OSError, ValueError) as error:
            if isinstance(error, RequestRefusedError):
                raise
            raise RequestRefusedError(
                f"the image cannot be segmented: {str(error).replace(str(image), image.name)}"
            ) from None
        path = write_result(mask, image, request)
        return str(path), {
            "label_names": self.labels,
            "weights_sha256": segmenter.weights_sha256,
            "latencies": {"total": round(time.perf_counter() - begin, 3)},
            "use": RESEARCH_USE,
            **facts,
        }

    def mask(
        self, image: Path, probabilities: NDArray[np.float32], request: Request
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """(W, H, N) of 0 and 1, and facts for the client."""
        threshold = number_of(request, "threshold", self._config["threshold"])
        components = int(number_of(request, "largest_components", 0))
        return mask_of(probabilities, threshold=threshold, largest_components=components), {}


class ClickInfer(FrameInfer):
    """The same mask, corrected by clicks: `foreground` and `background`, lists of [column, row, frame]."""

    def __init__(self, workspace: Workspace, labels: Mapping[str, int]) -> None:
        super().__init__(workspace, labels)
        self.type = InferType.DEEPGROW
        self.description = "Clicks on and off the vessel correct the mask around them"

    def mask(
        self, image: Path, probabilities: NDArray[np.float32], request: Request
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        mask, facts = super().mask(image, probabilities, request)
        frame = read_planes(image)
        on = points_of(request, "foreground", mask.shape)
        off = points_of(request, "background", mask.shape)
        for number in sorted({point[2] for point in (*on, *off)}):
            mask[..., number] = correct_mask(
                probabilities[..., number],
                mask[..., number],
                frame=frame[..., number],
                on=[point[:2] for point in on if point[2] == number],
                off=[point[:2] for point in off if point[2] == number],
            )
        return mask, facts | {"clicks": len(on) + len(off)}


def points_of(request: Request, name: str, shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """Clicks of a request.

    Raises:
        RequestRefusedError: unless they are [column, row] or [column, row, frame] within the image.
    """
    found = request.get(name) or []
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            found = None
    points = []
    for point in found if isinstance(found, list) else [None]:
        whole: tuple[int, ...] = ()
        if (
            isinstance(point, list)
            and len(point) in (2, 3)
            and all(type(x) in (int, float) and abs(x) < LARGEST_INDEX for x in point)
        ):
            whole = tuple(int(np.rint(x)) for x in [*point, 0][:3])
        if len(whole) != 3 or not all(0 <= x < size for x, size in zip(whole, shape, strict=True)):
            raise RequestRefusedError(
                f"`{name}` must be a list of [column, row] or [column, row, frame] within {tuple(shape)}, "
                f"got {str(point)[:60]}"
            )
        points.append((whole[0], whole[1], whole[2]))
    if len(points) > 1000:
        raise RequestRefusedError(f"`{name}` must be at most 1000 points, got {len(points)}")
    return points


def write_result(mask: NDArray[np.uint8], image: Path, request: Request) -> Path:
    """Write a mask as the client asked for: in the image's own format, or as NRRD (3D Slicer asks for it).

    Raises:
        RequestRefusedError: for another format.
    """
    own = ".nii.gz" if is_nifti(image) else ".png"
    suffix = request.get("result_extension") or own
    kinds = (*([s for s in SUFFIXES if is_nifti(s) == is_nifti(image)]), ".nrrd")
    if suffix not in kinds:
        raise RequestRefusedError(
            f"`result_extension` must be one of {', '.join(kinds)} for it, got {str(suffix)[:40]!r}"
        )
    descriptor, name = tempfile.mkstemp(suffix=str(suffix))
    os.close(descriptor)
    try:
        if suffix == ".nrrd":
            write_nrrd(mask, name, affine=affine_of(image))
        else:
            write_mask_like(mask, name, image=image)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def write_nrrd(mask: NDArray[np.uint8], path: str, *, affine: NDArray[np.float64]) -> None:
    """Write (W, H, N) as NRRD, with axes to left, posterior, superior, from an affine to right, anterior, superior."""
    import nrrd

    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    header = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,  # one row for each axis of the array
        "space origin": lps[:3, 3],
        "encoding": "gzip",
    }
    nrrd.write(path, mask, header)


class EachInfer(BatchInferTask):
    """Masks of many frames, one after another; one that cannot be read does not end the others.

    MONAI Label's divides by the number of GPUs where it has none.
    """

    def __call__(
        self, request: Request, datastore: FrameDatastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        names = sorted(self.get_images(request, datastore))
        limit = int(number_of(request, "max_batch_size", 0))
        if limit < 0:
            raise RequestRefusedError(f"`max_batch_size` must be 0 (all) or more, got {limit}")
        results: dict[str, dict[str, Any]] = {}
        for name in names[: limit or None]:
            single = {**request, "image": name, "save_label": True, "label_tag": request.get("label_tag", "original")}
            single |= {"device": device_of(request), "result_extension": None}
            try:
                done = infer(single, datastore)
            except RequestRefusedError as error:
                logger.warning("%s: %s", name, error)
                results[name] = {"error": str(error)}
                continue
            Path(done.pop("file")).unlink(missing_ok=True)
            results[name] = done
        return results


class BorderEntropyScoring(ScoringMethod):
    """How unsure the model is along the vessels' borders, of every frame without a label; kept in `scores.json`.

    A frame scored with the same weights is not scored again; one that cannot be read is noted there.
    """

    def __init__(self, workspace: Workspace, infer: FrameInfer) -> None:
        super().__init__("Entropy along the borders of vessels, of the mean over four mirror images")
        self.workspace = workspace
        self.infer = infer

    def __call__(self, request: Request, datastore: FrameDatastore) -> dict[str, Any]:
        segmenter = self.infer.segmenter(device_of(request))
        digest, threshold = segmenter.weights_sha256, segmenter.threshold
        scores, fresh = read_scores(self.workspace), 0
        for name in sorted(datastore.get_unlabeled_images()):
            if scores.get(name, {}).get("weights_sha256") == digest:
                continue
            try:
                planes = segmenter.probabilities(datastore.image_path(name), flips=True)
                found: dict[str, Any] = {"score": max(border_entropy(p, threshold=threshold) for p in planes.T)}
            except (OSError, ValueError):
                logger.warning("%s was not scored: the image cannot be read", name)
                found = {"score": None, "error": "the image cannot be read"}
            scores[name] = found | {"weights_sha256": digest}
            fresh += 1
            if fresh % 20 == 0:
                write_scores(self.workspace, scores)
        write_scores(self.workspace, scores)
        unread = sorted(name for name, found in scores.items() if "error" in found)
        return {"scored": fresh, "known": len(scores) - len(unread), "unreadable": unread}


def read_scores(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Of each frame; none where the file is not there or damaged: they are made anew then."""
    if not workspace.scores.is_file():
        return {}
    try:
        found = json.loads(workspace.scores.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(facts, dict) for facts in found.values()):
        logger.warning("%s is damaged: all frames are scored anew", workspace.scores.name)
        return {}
    return found


def write_scores(workspace: Workspace, scores: Mapping[str, Any]) -> None:
    write_text_atomic(workspace.scores, json.dumps(scores, indent=1) + "\n")


class BorderEntropy(Strategy):
    """The unlabelled frame with the most unsure borders, spread over patients; by the scores known so far."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("The frame where the model is least sure of the vessels' borders, spread over patients")
        self.workspace = workspace

    def __call__(self, request: Request, datastore: FrameDatastore) -> dict[str, Any] | None:
        known = read_scores(self.workspace)
        scores = {
            name: known.get(name, {}).get("score")
            for name in datastore.get_unlabeled_images()
            if "error" not in known.get(name, {})
        }
        served = {}
        for name in scores:
            given = datastore.get_image_info(name).get("strategy", {}).values()
            served[name] = max((float(one.get("ts", 0)) for one in given), default=0.0)
        taken = [*datastore.get_labeled_images(), *(name for name, when in served.items() if when)]
        chosen = choose_next(scores, self.workspace.groups(), taken, served)
        if chosen is None:
            return None
        ready = sum(score is not None for score in scores.values())
        return {"id": chosen, "score": scores[chosen], "scored": ready, "unlabelled": len(scores)}


class BundleFineTuning(TrainTask):
    """Fine-tunes the bundle's current weights on the labels, and replaces them only by better ones."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Fine-tune the current weights on all final labels; kept where validation Dice goes up")
        self.workspace = workspace

    def config(self) -> dict[str, Any]:
        return {"max_epochs": 20, "learning_rate": 0.0005, "val_split": 0.25, "seed": 0, "device": devices()}

    def stats(self) -> dict[str, Any]:
        """The last training, and how many there were."""
        history = read_history(self.workspace.training)
        return {**history[-1], "trainings": len(history)} if history else {}

    def __call__(self, request: Request, datastore: FrameDatastore) -> dict[str, Any]:
        groups = self.workspace.groups()
        rows = [
            {"id": name, "image": str(datastore.image_path(name)), "label": datastore.get_label_uri(name, "final"),
             "group": groups.get(name, name)}
            for name in sorted(datastore.get_labeled_images())
        ]  # fmt: skip
        defaults = self.config()
        return fine_tune(
            self.workspace.bundle,
            rows,
            self.workspace.training,
            max_epochs=int(number_of(request, "max_epochs", defaults["max_epochs"])),
            learning_rate=number_of(request, "learning_rate", defaults["learning_rate"]),
            val_split=number_of(request, "val_split", defaults["val_split"]),
            seed=int(number_of(request, "seed", defaults["seed"])),
            device=device_of(request),
        )


class LabelApp(MONAILabelApp):
    """One bundle, on the frames of one workspace. MONAI Label makes it, in the server and in each of its processes."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.workspace = Workspace.open(Path(app_dir).parent)
        metadata = json.loads((self.workspace.bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        self.classes = {name: int(number) for number, name in channels.items() if int(number) > 0}
        super().__init__(
            app_dir,
            studies,
            conf,
            name=metadata["name"],
            description=metadata["description"],
            version=metadata["version"],
            labels=list(self.classes),
        )

    def init_datastore(self) -> FrameDatastore:
        return FrameDatastore(
            self.studies,
            extensions=["*.nii.gz", "*.png"],
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        )

    def init_infers(self) -> dict[str, InferTask]:
        name = self.workspace.bundle_name
        return {
            name: FrameInfer(self.workspace, self.classes),
            f"{name}_clicks": ClickInfer(self.workspace, self.classes),
        }

    def init_trainers(self) -> dict[str, TrainTask]:
        return {self.workspace.bundle_name: BundleFineTuning(self.workspace)}

    def init_strategies(self) -> dict[str, Strategy]:
        return {STRATEGY: BorderEntropy(self.workspace), "random": Random(), "first": First()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        infer = self._infers[self.workspace.bundle_name]
        assert isinstance(infer, FrameInfer)
        return {STRATEGY: BorderEntropyScoring(self.workspace, infer)}

    def init_batch_infer(self) -> Callable[..., Any]:
        return EachInfer()

    def infer(self, request: dict[str, Any], datastore: FrameDatastore | None = None) -> dict[str, Any]:
        """As MONAI Label's, but for an image that is a frame's id and nothing else.

        Raises:
            RequestRefusedError: 404 for an unknown model or image, 400 for another mistake in the request.
        """
        store = datastore or self.datastore()
        task = self._infers.get(request.get("model"))
        if task is None:
            raise RequestRefusedError(f"there is no such model; there are {', '.join(self._infers)}", status=404)
        image = store.image_path(request.get("image"))
        path, facts = task({**request, "image": str(image)})
        result = {"label": path, "tag": "original", "file": path, "params": facts}
        if request.get("save_label") in (True, "true"):
            tag = request.get("label_tag") or "original"
            try:
                result["label"] = store.save_label(
                    request["image"], path, check_id(tag, what="label_tag"), {"params": facts}
                )
            except ValueError as error:
                Path(path).unlink(missing_ok=True)
                raise error if isinstance(error, RequestRefusedError) else RequestRefusedError(str(error)) from None
        return result

    def next_sample(self, request: Request) -> dict[str, Any]:
        """As MONAI Label's, without a scoring of all frames at every call: scores change with the weights alone."""
        strategy = request.get("strategy") or STRATEGY
        task = self._strategies.get(strategy)
        if task is None:
            raise RequestRefusedError(f"there is no such strategy; there are {', '.join(self._strategies)}", status=404)
        chosen = task({**request, "strategy": strategy}, self.datastore())
        if not chosen:
            return {}
        return {**chosen, "path": self.datastore().image_path(chosen["id"]).name}

    def train(self, request: Request) -> dict[str, Any]:
        """Train, then score the frames with the new weights, in the process that MONAI Label made for it."""
        task = self._trainers.get(request.get("model"))
        if task is None:
            raise RequestRefusedError(
                f"there is no such model to train; there are {', '.join(self._trainers)}", status=404
            )
        result = task(dict(request), self.datastore())
        if result["replaced"]:
            self.scoring({"method": STRATEGY, "device": request.get("device")})
        return result

    def model_info(self, model: str) -> dict[str, Any] | None:
        """As MONAI Label's, with the trainings so far: validation Dice before and after each."""
        info = super().model_info(model)
        return info and {**info, "trainings": read_history(self.workspace.training)}
