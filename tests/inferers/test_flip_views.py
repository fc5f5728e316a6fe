"""A frame and its mirror images, seen by one network."""

import torch
from monai.inferers import SimpleInferer

from cmunet_monai.inferers import FlipViews


def test_a_network_that_mirrors_with_its_input_says_the_same_in_every_view():
    image = torch.rand(2, 1, 5, 7)
    views = FlipViews(SimpleInferer())(image, lambda x: torch.cat([x, 2 * x], dim=1))
    assert views.shape == (2, 8, 5, 7)
    for view in range(4):
        assert torch.equal(views[:, 2 * view : 2 * view + 1], image)
        assert torch.equal(views[:, 2 * view + 1 : 2 * view + 2], 2 * image)


def test_a_network_that_looks_to_one_side_says_something_else_in_each_view():
    image = torch.arange(4.0).reshape(1, 1, 2, 2)  # 0 1 / 2 3
    views = FlipViews(SimpleInferer())(image, lambda x: torch.zeros_like(x).index_fill(2, torch.tensor(0), 1.0))
    # marks the first row of what it is shown: the last one of the frame where that was turned upside down
    first, last = torch.tensor([[1.0, 1], [0, 0]]), torch.tensor([[0.0, 0], [1, 1]])
    assert [torch.equal(view, expected) for view, expected in zip(views[0], (first, last, first, last), strict=True)]
    assert torch.equal(views[0, 1], last)
    assert torch.equal(views[0, 2], first)


def test_without_flips_the_network_is_called_once():
    calls = []
    FlipViews(SimpleInferer(), flips=False)(torch.rand(1, 1, 4, 4), lambda x: calls.append(x) or x)
    assert len(calls) == 1
