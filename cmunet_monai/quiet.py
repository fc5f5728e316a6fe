"""Without the remarks of MONAI that concern nobody who uses it through this package.

MONAI says at each import that a decoder of NVIDIA's is not there, at each run that a config is code (which `check
--help` and the README say), and that its own file of logging is not used. Other remarks and warnings stay.

`python -m cmunet_monai.quiet MODULE [ARGUMENTS]` runs a module so: `python -m cmunet_monai.quiet monai.bundle run`.
"""

import logging
import runpy
import sys
import warnings
from collections.abc import Sequence

# logger -> how a remark begins
REMARKS = {
    "monai.data.nvimgcodec_pydicom_plugin": "nvImageCodec is not available",
    "monai.bundle.workflows": "Logging file is set to False",
}
WARNINGS = ("parsing config_file", "NvImgCodecPydicomReader: nvImageCodec")


class _Without(logging.Filter):
    def __init__(self, beginning: str) -> None:
        super().__init__()
        self.beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginning)


def quiet() -> None:
    """Leave the remarks out from now on. To be called before MONAI is imported."""
    for beginning in WARNINGS:
        warnings.filterwarnings("ignore", message=beginning, category=UserWarning)
    for name, beginning in REMARKS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Without) for known in logger.filters):
            logger.addFilter(_Without(beginning))


def main(argv: Sequence[str]) -> None:
    """Run the module `argv[0]` with the arguments that follow."""
    if not argv:
        raise SystemExit("usage: python -m cmunet_monai.quiet MODULE [ARGUMENTS]")
    quiet()
    sys.argv[1:] = argv[1:]
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
