"""Without the remarks of MONAI that concern nobody who uses it through this package.

MONAI says at each import that a decoder of NVIDIA's is not there, at each run that a config is code (which `check
--help` and the README say), that its own file of logging is not used, and that overlays lie in a folder of their own.
Other remarks and warnings stay.

`python -m cmunet_monai.quiet MODULE [ARGUMENTS]` runs a module so: `python -m cmunet_monai.quiet monai.bundle run`.
"""

import logging
import runpy
import sys
import warnings
from collections.abc import Sequence

# logger -> how its remarks begin
REMARKS = {
    "monai.data.nvimgcodec_pydicom_plugin": ("nvImageCodec is not available",),
    "monai.bundle.workflows": ("Logging file is set to False", "Not all config files are in"),
}
WARNINGS = ("parsing config_file", "NvImgCodecPydicomReader: nvImageCodec")


class _Without(logging.Filter):
    def __init__(self, beginnings: tuple[str, ...]) -> None:
        super().__init__()
        self.beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


def quiet() -> None:
    """Leave the remarks out from now on. To be called before MONAI is imported."""
    for beginning in WARNINGS:
        warnings.filterwarnings("ignore", message=beginning, category=UserWarning)
    for name, beginnings in REMARKS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Without) for known in logger.filters):
            logger.addFilter(_Without(beginnings))


def main(argv: Sequence[str]) -> None:
    """Run the module `argv[0]` with the arguments that follow."""
    if not argv:
        raise SystemExit("usage: python -m cmunet_monai.quiet MODULE [ARGUMENTS]")
    quiet()
    sys.argv[1:] = argv[1:]
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
