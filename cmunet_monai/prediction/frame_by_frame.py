"""Run an evaluator so that what fails for one frame costs that frame alone."""

import errno
import logging
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.data import DataLoader
from monai.engines.utils import IterationEvents

from cmunet_monai.files.atomic import FULL
from cmunet_monai.readers.frame_folder import without_path

# step -> what is said where it fails
_FAILED = {
    "prepare": "it could not be read and prepared for the network",
    "segment": "the network could not segment it",
    "write": "its arteries could not be measured, drawn or written",
}
# No frame's fault: going on would lose the others too
_ENDS_ALL = (*FULL, errno.EROFS)
_LONGEST_REASON = 200


class FrameByFrame:
    """Drives MONAI's evaluator over its batches, and goes on behind one that fails.

    ignite ends a run at the first exception. Here the batch that failed is tried once more, each frame alone and loaded
    in this process, which tells the frame and the reason; the run then goes on with the next batch.

    Args:
        evaluator: its data loader must be MONAI's with a batch sampler.
    """

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        self.loader = evaluator.data_loader
        self.step = "prepare"
        self.completed = 0
        evaluator.interrupt_resume_enabled = False  # ignite cannot go on with a run that an exception has ended
        evaluator.add_event_handler(Events.GET_BATCH_STARTED, self._at, "prepare")
        evaluator.add_event_handler(Events.ITERATION_STARTED, self._at, "segment")
        # behind the handlers that the evaluator has already: its post-processing, and whatever writes results
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, self._at, "write")
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._count)

    def run(self) -> dict[int, str]:
        """Run all batches.

        Returns:
            Index in the data set -> reason of each frame that failed.
        Raises:
            OSError: if the disk is full or cannot be written.
        """
        batches = [list(batch) for batch in self.loader.batch_sampler]
        failed: dict[int, str] = {}
        while batches:
            if self._run(batches, self.loader.num_workers) is None:
                break
            done = self.completed
            for index in batches[done]:
                error = self._run([[index]], 0)
                if error is not None:
                    image = Path(self.loader.dataset.data[index]["image"])
                    failed[index] = f"{_FAILED[self.step]} ({reason_of(error, image)})"
            batches = batches[done + 1 :]
        return failed

    def _run(self, batches: list[list[int]], workers: int) -> Exception | None:
        """Run batches up to the first that fails, and return its error; `completed` says how many went before."""
        engine = self.evaluator
        engine.data_loader = DataLoader(
            self.loader.dataset, num_workers=workers, batch_sampler=batches, collate_fn=self.loader.collate_fn
        )
        engine.state.epoch_length = len(batches)
        self.completed = 0
        level = engine.logger.level
        engine.logger.setLevel(logging.CRITICAL)  # it would log the error, which is told in the table
        try:
            engine.run()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _ENDS_ALL:
                raise
            return error
        finally:
            engine.logger.setLevel(level)
        return None

    def _at(self, engine: Any, step: str) -> None:
        self.step = step

    def _count(self, engine: Any) -> None:
        self.completed += 1


def reason_of(error: BaseException, image: Path) -> str:
    """What an error says, in one line without the path of the frame; of a chain of errors, the first."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = without_path(error, image, "no more is known")
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]} ..."
