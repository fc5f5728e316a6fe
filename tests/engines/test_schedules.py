import math

import pytest
import torch
from torch import nn

from cmunet_monai.engines import adamw, learning_rate_for_batch, one_cycle, warmup_cosine
from cmunet_monai.networks import UNet, save_unet_weights


def rates(optimizer, schedule, steps):
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_biases_and_norms_have_no_weight_decay():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 5))
    decayed, free = adamw(network, learning_rate=0.1, weight_decay=0.05).param_groups
    assert [p.shape for p in decayed["params"]] == [(2, 1, 3, 3), (5, 4)]
    assert [p.shape for p in free["params"]] == [(2,), (2,), (2,), (5,)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert decayed["betas"] == (0.9, 0.95)


def test_frozen_parameters_are_not_optimised():
    network = nn.Linear(2, 2).requires_grad_(False)
    assert all(group["params"] == [] for group in _groups(network))


def _groups(network):
    trained = nn.ModuleList([network, nn.Linear(1, 1)])
    groups = adamw(trained, learning_rate=0.1).param_groups
    own = {id(p) for p in network.parameters()}
    return [{"params": [p for p in group["params"] if id(p) in own]} for group in groups]


def test_the_base_rate_is_that_of_256_images():
    assert learning_rate_for_batch(1.5e-4, 256) == 1.5e-4
    assert learning_rate_for_batch(1.5e-4, 32, processes=4) == pytest.approx(0.75e-4)


def test_warm_up_is_linear_and_the_cosine_ends_at_zero():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    seen = rates(optimizer, warmup_cosine(optimizer, [0] * 2, max_epochs=6, warmup_epochs=2), 12)
    assert seen[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert seen[8] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert seen[12] == pytest.approx(0.0)


def test_a_warm_up_as_long_as_the_run_is_named():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"from 0 to 4 .*, got 5"):
        warmup_cosine(optimizer, [0], max_epochs=5, warmup_epochs=5)


def test_one_cycle_peaks_at_each_groups_rate_and_ends_near_zero():
    head, body = nn.Linear(1, 1), nn.Linear(1, 1)
    groups = [{"params": head.parameters()}, {"params": body.parameters(), "lr": 5e-4}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    schedule = one_cycle(optimizer, [0] * 4, max_epochs=5)
    seen = []
    for _ in range(20):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step() if len(seen) < 20 else None
    assert [max(rates) for rates in zip(*seen, strict=True)] == pytest.approx([2e-3, 5e-4])
    assert max(seen[-1]) < 1e-7


@pytest.fixture
def started(tmp_path):
    """A network, and a file that holds its encoder and a head of another shape."""
    network = UNet(channels=(2, 4))
    other = UNet(channels=(2, 4), out_channels=3)
    save_unet_weights(other, tmp_path / "unet.safetensors", parts=("encoder", "head"))
    return network, tmp_path / "unet.safetensors"


def names_by_rate(network, optimizer):
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    return {name: rates[id(p)] for name, p in network.named_parameters()}


def test_only_what_the_file_brings_takes_the_pretrained_rate(started):
    network, weights = started
    optimizer = adamw(network, learning_rate=0.1, weight_decay=0.05, pretrained_weights=weights, pretrained_rate=0.25)
    found = names_by_rate(network, optimizer)
    assert {rate for name, (rate, _) in found.items() if name.startswith("encoder")} == {0.025}
    assert {rate for name, (rate, _) in found.items() if not name.startswith("encoder")} == {0.1}
    assert all(found[name][1] == (0.05 if p.ndim > 1 else 0) for name, p in network.named_parameters())
    assert optimizer.param_groups[0]["lr"] == 0.1  # the one that is logged


@pytest.mark.parametrize("options", [{}, {"pretrained_rate": 1.0}])
def test_at_the_same_rate_the_file_makes_no_groups(started, options):
    network, weights = started
    groups = adamw(network, learning_rate=0.1, pretrained_weights=weights, **options).param_groups
    assert [len(group["params"]) for group in groups] == [
        sum(p.ndim > 1 for p in network.parameters()),
        sum(p.ndim <= 1 for p in network.parameters()),
    ]


def test_without_a_file_the_pretrained_rate_is_nobodys():
    network = UNet(channels=(2, 4))
    optimizer = adamw(network, learning_rate=0.1, pretrained_rate=0.25)
    assert {rate for rate, _ in names_by_rate(network, optimizer).values()} == {0.1}


def test_a_wrapped_network_is_looked_into(started):
    network, weights = started
    wrapped = nn.Module()
    wrapped.module = network
    optimizer = adamw(wrapped, learning_rate=0.1, pretrained_weights=weights, pretrained_rate=0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1, 0.025}


def test_a_negative_pretrained_rate_is_named():
    with pytest.raises(ValueError, match="`pretrained_rate` must be at least 0, got -1"):
        adamw(nn.Linear(1, 1), learning_rate=0.1, pretrained_rate=-1)
