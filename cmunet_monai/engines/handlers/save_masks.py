"""Masks and pictures of an inference run."""

import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from cmunet_monai.writers import draw_outline, write_mask, write_picture


class SaveMasks:
    """Write the mask of every frame, with the frame's geometry and format, and a picture of it.

    A mask has its frame's path relative to `frames_dir`: `b/a.png` gives `b/a.png`, `a.nii.gz` gives `a.nii.gz`, so
    that files which differ only in their ending do not meet. Pictures get the same path, and `.png` after a NIfTI's.
    The mask of a DICOM frame is `<frame_id>.nii.gz`, a pseudonym (`LoadFramed`), with the pixel size where it is known.

    Args:
        output_dir: folder of the masks.
        frames_dir: folder that the frames come from.
        overlay_dir: folder of the pictures; None writes none.
    Raises:
        FileExistsError: if two frames of one run would write the same file.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        frames_dir: str | os.PathLike[str],
        *,
        overlay_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.frames_dir = Path(frames_dir)
        self.overlay_dir = Path(overlay_dir) if overlay_dir is not None else None
        self.written: set[Path] = set()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.written.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            mask = output[CommonKeys.PRED].cpu()
            meta = output[CommonKeys.IMAGE].meta
            if "frame_id" in meta:  # of DICOM
                relative, frame = Path(f"{meta['frame_id']}.nii.gz"), None
            else:
                frame = Path(meta["filename_or_obj"])
                relative = frame.relative_to(self.frames_dir)
            path = self._claim(self.output_dir / relative)
            write_mask(mask, path, frame=frame, spacing_mm=meta.get("spacing_mm"))
            if self.overlay_dir is not None:
                name = relative if relative.suffix.lower() == ".png" else Path(f"{relative}.png")
                write_picture(draw_outline(item["frame"].cpu(), mask), self._claim(self.overlay_dir / name))

    def _claim(self, path: Path) -> Path:
        if path in self.written:
            raise FileExistsError(f"two frames would write {path}: rename one, or put them into folders of their own")
        self.written.add(path)
        return path
