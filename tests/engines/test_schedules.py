import math

import pytest
import torch
from torch import nn

from cmunet_monai.engines import adamw, learning_rate_for_batch, one_cycle, warmup_cosine


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
    with pytest.raises(ValueError, match=r"0 \.\. max_epochs - 1 = 4, got 5"):
        warmup_cosine(optimizer, [0], max_epochs=5, warmup_epochs=5)


def test_one_cycle_peaks_at_the_asked_rate_and_ends_near_zero():
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=1e-3)
    seen = rates(optimizer, one_cycle(optimizer, [0] * 4, max_epochs=5, learning_rate=2e-3), 19)
    assert max(seen) == pytest.approx(2e-3)
    assert seen[-1] < 1e-7
