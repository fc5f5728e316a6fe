"""`python -m cmunet_monai check`: every mistake in a bundle run that can be seen before it starts, each by name."""

from cmunet_monai.check.arguments import RunArguments, parse_arguments
from cmunet_monai.check.command import Report, check_run

__all__ = ["Report", "RunArguments", "check_run", "parse_arguments"]
