import copy
import itertools

import pytest
import torch
from torch import nn

from cmunet_monai.networks import UNetEncoder, encode_visible

CHANNELS = (3, 4, 5)


def make_encoder(channels=CHANNELS, seed=0):
    torch.manual_seed(seed)
    encoder = UNetEncoder(1, channels)
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return encoder


def make_image(rows=3, columns=4, side=4, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, 1, rows, columns, generator=generator) < 0.6
    mask[0, 0, 0] = torch.arange(columns) % 2 == 1
    return torch.randn(batch, 1, rows * side, columns * side, generator=generator), mask


def positions(mask, side):
    return mask.repeat_interleave(side, -2).repeat_interleave(side, -1)


def step(encoder, image, mask):
    """Features, and the gradients of a weighted sum of them."""
    features = encode_visible(encoder, image, mask)
    sum((feature * torch.linspace(-1, 1, feature.numel()).view_as(feature)).sum() for feature in features).backward()
    return features


@pytest.mark.parametrize("training", [True, False])
def test_with_nothing_hidden_it_is_the_plain_encoder(training):
    image, mask = make_image()
    plain, sparse = make_encoder().train(training), make_encoder().train(training)
    expected = plain(image)
    sum((feature * torch.linspace(-1, 1, feature.numel()).view_as(feature)).sum() for feature in expected).backward()
    features = step(sparse, image, torch.zeros_like(mask))
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dict(sparse.named_buffers()), dict(plain.named_buffers()), rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(sparse.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_hidden_pixels_change_neither_features_nor_buffers_nor_gradients(training, value):
    image, mask = make_image()
    first, second = make_encoder().train(training), make_encoder().train(training)
    features = step(first, image, mask)
    changed = torch.where(positions(mask, 4), value, image).requires_grad_()
    for ours, theirs in zip(step(second, changed, mask), features, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(second.buffers(), first.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(second.parameters(), first.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert torch.equal(changed.grad != 0, ~positions(mask, 4))


@pytest.mark.parametrize("side", [4, 8, 12, 16])
def test_it_is_the_encoder_masked_again_after_every_layer(side):
    image, mask = make_image(side=side)
    encoder = make_encoder().eval()
    expected = torch.where(positions(mask, side), 0.0, image)
    for depth, (stage, feature) in enumerate(zip(encoder.stages, encode_visible(encoder, image, mask), strict=True)):
        hidden = positions(mask, side // 2**depth)
        for layer in [nn.MaxPool2d(2), *stage] if depth else stage:
            expected = torch.where(hidden, 0.0, layer(expected))
        torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-5)


def test_where_a_patch_is_one_position_the_features_are_hidden_as_the_mask_says():
    image, mask = make_image()
    bottleneck = encode_visible(make_encoder(), image, mask)[-1]
    assert bottleneck.shape[-2:] == mask.shape[-2:]
    assert torch.equal(bottleneck.abs().sum(dim=1, keepdim=True) > 0, ~mask)


def test_batch_norm_counts_visible_positions_only():
    encoder = UNetEncoder(1, (1,))
    convolution, norm = encoder.stages[0][0], encoder.stages[0][1]
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]))
        convolution.bias.fill_(1.0)
    seen = {}
    norm.register_forward_hook(lambda _, inputs, output: seen.update(image=inputs[0].clone(), output=output.clone()))
    image = torch.full((1, 1, 4, 4), 50.0)
    image[0, 0, :2, 2:] = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    mask = torch.tensor([[[[True, False], [True, True]]]])
    encode_visible(encoder, image, mask)
    # 1, 2, 3, 6: mean 3, squares around it 4 + 1 + 0 + 9 = 14; variance 14 / 4 in the batch, 14 / 3 unbiased
    assert seen["image"].flatten().tolist() == [1, 2, 3, 6]
    torch.testing.assert_close(seen["output"].flatten(), torch.tensor([-2.0, -1, 0, 3]) / (3.5 + norm.eps) ** 0.5)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.1 * 3]))
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9 * 1 + 0.1 * 14 / 3]))
    assert norm.num_batches_tracked == 1


def test_a_stage_in_training_is_what_loops_over_visible_positions_give():
    encoder = make_encoder((2,)).double()
    image, mask = make_image(rows=2, columns=3, side=2)
    image = image.double()
    batch, _, height, width = image.shape
    visible = [
        (b, y, x)
        for b, y, x in itertools.product(range(batch), range(height), range(width))
        if not mask[b, 0, y // 2, x // 2]
    ]
    values = {place: [image[place[0], 0, place[1], place[2]].item()] for place in visible}
    for convolution, norm in (encoder.stages[0][0:2], encoder.stages[0][3:5]):
        sums = {place: [bias.item() for bias in convolution.bias] for place in visible}
        for (b, y, x), dy, dx in itertools.product(visible, (-1, 0, 1), (-1, 0, 1)):
            for before, after in itertools.product(range(convolution.in_channels), range(2)):
                neighbour = values.get((b, y + dy, x + dx))  # hidden, or outside the image: does not exist
                if neighbour is not None:
                    weight = convolution.weight[after, before, dy + 1, dx + 1].item()
                    sums[b, y, x][after] += weight * neighbour[before]
        values = {place: [0.0, 0.0] for place in visible}
        for channel in range(2):
            column = [sums[place][channel] for place in visible]
            mean = sum(column) / len(column)
            variance = sum((value - mean) ** 2 for value in column) / len(column)
            weight, bias = norm.weight[channel].item(), norm.bias[channel].item()
            for place in visible:
                normalised = (sums[place][channel] - mean) / (variance + norm.eps) ** 0.5
                values[place][channel] = max(0.0, weight * normalised + bias)
    expected = torch.zeros(batch, 2, height, width, dtype=torch.float64)
    for (b, y, x), channels in values.items():
        expected[b, :, y, x] = torch.tensor(channels)
    torch.testing.assert_close(encode_visible(encoder, image, mask)[0], expected)


def test_zeros_at_hidden_positions_never_win_over_negative_values_in_pooling():
    encoder = UNetEncoder(1, (1, 1))
    encoder.stages = nn.ModuleList([nn.Sequential(nn.Identity()), nn.Sequential(nn.Identity())])
    mask = torch.tensor([[[[True, False], [False, True]]]])
    pooled = encode_visible(encoder, torch.full((1, 1, 4, 4), -5.0), mask)[1]
    assert pooled[0, 0].tolist() == [[0, -5], [-5, 0]]


def test_an_image_that_is_hidden_whole_does_not_count_beside_others():
    image, mask = make_image()
    mask[1] = True
    encoder, alone = make_encoder(), make_encoder()
    for both, first in zip(
        encode_visible(encoder, image, mask), encode_visible(alone, image[:1], mask[:1]), strict=True
    ):
        torch.testing.assert_close(both[:1], first)
        assert not both[1].any()
    torch.testing.assert_close(encoder.stages[0][1].running_var, alone.stages[0][1].running_var)


def test_memory_format_changes_nothing_and_the_image_stays():
    image, mask = make_image()
    before = image.clone()
    encoder = make_encoder()
    last = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    transposed = image.mT.contiguous().mT
    features = encode_visible(encoder, image, mask)
    torch.testing.assert_close(encode_visible(last, transposed, mask), features)
    assert torch.equal(image, before)


def test_bfloat16_stays_close_to_float32():
    image, mask = make_image()
    with torch.autocast("cpu", torch.bfloat16):
        half = encode_visible(make_encoder(), image, mask)
    for ours, expected in zip(half, encode_visible(make_encoder(), image, mask), strict=True):
        torch.testing.assert_close(ours.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "mask, message",
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.bool), r"multiples of 4 .*got torch.bool \(2, 1, 8, 8\)"),
        (torch.zeros(2, 1, 4, 2, dtype=torch.bool), r"\(2, 1, 4, 2\) for `image` \(2, 1, 16, 16\)"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.bool), r"\(1, 1, 4, 4\)"),
        (torch.zeros(2, 4, 4, dtype=torch.bool), r"\(2, 4, 4\)"),
        (torch.zeros(2, 1, 0, 0, dtype=torch.bool), r"\(2, 1, 0, 0\)"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.bool), r"\(2, 1, 32, 32\)"),
        (torch.zeros(2, 1, 4, 4), "must be bool.*got torch.float32"),
        (torch.ones(2, 1, 4, 4, dtype=torch.bool), "hides everything"),
    ],
)
def test_masks_that_do_not_fit_are_named(mask, message):
    with pytest.raises(ValueError, match=message):
        encode_visible(make_encoder(), torch.zeros(2, 1, 16, 16), mask)
