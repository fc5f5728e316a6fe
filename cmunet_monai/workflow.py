"""Bundles that this package runs itself."""

from typing import Any

from monai.bundle import ConfigWorkflow


def run_workflow(config: str, **settings: Any) -> None:
    """Initialize, run and finalize a bundle's config.

    Args:
        config: its file.
        settings: of MONAI's `ConfigWorkflow`: its own, and those at the top of the config.
    Raises:
        OSError, ValueError: what a component raises; MONAI wraps it, and its own text repeats the whole config.
    """
    try:
        workflow = ConfigWorkflow(config, logging_file=False, **settings)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except RuntimeError as error:
        if isinstance(error.__cause__, (OSError, ValueError)):
            raise error.__cause__ from None
        raise
