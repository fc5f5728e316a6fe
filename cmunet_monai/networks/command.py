"""`python -m cmunet_monai convert SOURCE --output FILE.safetensors`."""

import argparse
from collections.abc import Sequence

from cmunet_monai.networks.convert import convert_reference_weights
from cmunet_monai.options import options_named

EXAMPLES = """\
examples:
  python -m cmunet_monai convert cmunet_pretrained.pth --output cm_unet.safetensors    encoder and decoder
  python -m cmunet_monai convert moco.ckpt --output moco.safetensors                   encoder
  python -m cmunet_monai convert unet_state_dict.pth --output unet.safetensors         encoder, decoder and head

Give the result to fine-tuning as --pretrained_weights, or, if it has a trained head, to evaluation and inference as
--weights; where the channels that are reported differ from those of the config, with --channels.

Nothing in SOURCE is executed. A whole pickled model, or a checkpoint that holds other objects, is refused. If you trust
it, save its weights alone in the environment where its classes can be imported:

  x = torch.load("model.pth", map_location="cpu", weights_only=False)
  torch.save(x.state_dict(), "unet_state_dict.pth")        of a whole model
  torch.save(x["state_dict"], "unet_state_dict.pth")       of a checkpoint
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cmunet_monai convert",
        description="Turn a checkpoint published with CM-UNet (Challier et al. 2025) into weights of this package: the "
        "UNet itself, or its pre-training by CM-UNet, SparK or MoCo. The kind and the channels are read from the file. "
        "Says what was converted and what was left out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help=".pt, .pth, .ckpt or .safetensors file")
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE.safetensors",
        help="file to write; FILE.json, which says where it comes from, is written beside it",
    )
    arguments = parser.parse_args(argv)
    with options_named(parser, vars(arguments), {"path": "--output"}):
        print(f"{arguments.output}: {convert_reference_weights(arguments.source, arguments.output)}")
    return 0
