"""`cmunet convert SOURCE --output FILE.safetensors`."""

from collections.abc import Sequence

from cmunet_monai.options import options_named
from cmunet_monai.verbs import verb_parser

EPILOG = """\
The checkpoint is one published with CM-UNet (Challier et al. 2025): the UNet itself, or its pre-training by CM-UNet,
SparK or MoCo. The kind of checkpoint and its channels are read from the file. The command prints what was converted and
what was left out.

examples:
  %(prog)s cmunet_pretrained.pth -o cm_unet.safetensors    encoder and decoder
  %(prog)s moco.ckpt -o moco.safetensors                   encoder
  %(prog)s unet_state_dict.pth -o unet.safetensors         encoder, decoder and head

Give the result to fine-tuning as --pretrained_weights, or, if it has a trained head, to evaluation and inference as
--weights; where the channels that are reported differ from those of the config, with --channels.

Nothing in SOURCE is executed. A whole pickled model, or a checkpoint that holds other objects, is refused. If you trust
it, save its weights alone in the environment where its classes can be imported:

  x = torch.load("model.pth", map_location="cpu", weights_only=False)
  torch.save(x.state_dict(), "unet_state_dict.pth")        of a whole model
  torch.save(x["state_dict"], "unet_state_dict.pth")       of a checkpoint
"""


def main(argv: Sequence[str]) -> int:
    parser = verb_parser("convert", EPILOG)
    parser.add_argument("source", metavar="SOURCE", help=".pt, .pth, .ckpt or .safetensors file")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE.safetensors",
        help="file to write; FILE.json, which says where it comes from, is written beside it",
    )
    arguments = parser.parse_args(argv)
    from cmunet_monai.networks.convert import convert_reference_weights  # imports torch

    with options_named(parser, vars(arguments), {"path": "--output"}):
        print(f"{arguments.output}: {convert_reference_weights(arguments.source, arguments.output)}")
    return 0
