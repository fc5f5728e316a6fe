import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, get_track_meta
from monai.transforms import RandFlip, RandGaussianNoise, ScaleIntensity, Transform

from cmunet_monai.engines import SeededCacheDataset


class Count(Transform):
    calls = 0

    def __call__(self, data):
        type(self).calls += 1
        return data


def noisy(seed=0, transform=None):
    frames = [torch.full((1, 2, 2), float(index)) for index in range(6)]
    return SeededCacheDataset(frames, transform or [RandGaussianNoise(prob=1.0)], seed=seed, progress=False)


def draw(dataset, epoch, **settings):
    dataset.set_epoch(epoch)
    return torch.cat([torch.as_tensor(batch) for batch in DataLoader(dataset, batch_size=2, **settings)])


def test_samples_do_not_depend_on_the_number_of_workers():
    one = draw(noisy(), 3, num_workers=0)
    assert torch.equal(draw(noisy(), 3, num_workers=1), one)
    assert torch.equal(draw(noisy(), 3, num_workers=2), one)


def test_samples_do_not_depend_on_what_was_drawn_before():
    dataset = noisy()
    expected = draw(dataset, 2)
    draw(dataset, 5)
    np.random.seed(99)  # noqa: NPY002 - the global state, on which nothing may depend
    assert torch.equal(draw(dataset, 2), expected)


def test_epochs_samples_and_seeds_differ():
    dataset = noisy()
    first = draw(dataset, 1)
    noise = first - torch.arange(6.0).view(6, 1, 1, 1)
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(draw(dataset, 2), first)
    assert not torch.equal(draw(noisy(seed=1), 1), first)


def test_transforms_before_the_first_random_one_run_once():
    Count.calls = 0
    dataset = noisy(transform=[Count(), ScaleIntensity(minv=None, maxv=None, factor=0.0), RandGaussianNoise(prob=1.0)])
    draw(dataset, 1)
    draw(dataset, 2)
    assert Count.calls == 6


def test_samples_keep_no_record_and_what_others_track_is_untouched():
    sample = noisy(transform=[RandFlip(prob=1.0), RandGaussianNoise(prob=1.0)])[0]
    assert not isinstance(sample, MetaTensor)
    assert get_track_meta()


def test_an_empty_list_is_named():
    with pytest.raises(ValueError, match="`data` is empty"):
        SeededCacheDataset([], [Count()])
