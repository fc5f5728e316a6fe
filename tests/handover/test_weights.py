"""The header that a package's weights must have, held to the one that safetensors writes."""

import pytest
import torch
from safetensors.torch import save

from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.weights import MAX_HEADER, read_channels, weights_header
from cmunet_monai.networks import UNet


@pytest.mark.parametrize("channels", [(4, 8), (1, 3, 2), (2, 4, 8, 16, 32, 64, 128, 256)])
def test_header_is_the_one_that_safetensors_writes(channels):
    data = save(UNet(channels=channels).state_dict())
    header, end = weights_header(list(channels))
    assert data[8 : 8 + len(header)] == header
    assert len(data) == 8 + len(header) + end
    assert read_channels(data[: 8 + MAX_HEADER], len(data)) == channels


def test_numbers_are_not_looked_at():
    state = UNet(channels=(4, 8)).state_dict() | {"head.bias": torch.tensor([float("nan"), float("inf")])}
    data = save(state)
    header, _ = weights_header([4, 8])
    assert read_channels(data[: 8 + len(header)], len(data)) == (4, 8)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\0" * 8, b"\1" + b"\0" * 7 + b"1", b"\xff" * 100, b"\2" + b"\0" * 7 + b"[]"]
)
def test_what_has_no_header_is_refused(content):
    with pytest.raises(Refused, match="not safetensors, or damaged"):
        read_channels(content, len(content))


@pytest.mark.parametrize("shape", ["[]", "[0]", "[-1]", "[true]", "[4.0]", "4", "null", "{}", '"4"', "[4097]"])
def test_first_tensor_of_a_shape_that_is_none_is_refused(shape):
    tensors = ",".join(f'"encoder.stages.{stage}.0.weight":{{"shape":{shape}}}' for stage in range(2))
    text = f"{{{tensors}}}".encode()
    with pytest.raises(Refused, match="not the weights of a UNet of 2 to 8 stages of at most 4096 channels"):
        read_channels(len(text).to_bytes(8, "little") + text, 8 + len(text))


@pytest.mark.parametrize("stages", [1, 9, 3000])
def test_number_of_stages_is_bounded(stages):
    text = ("{" + ",".join(f'"encoder.stages.{n}.0.weight":{{"shape":[4096]}}' for n in range(stages)) + "}").encode()
    with pytest.raises(Refused, match="2 to 8 stages"):
        read_channels(len(text).to_bytes(8, "little") + text, 8 + len(text))
