from collections import Counter

import pytest
import torch
from monai.transforms import RandScaleIntensityd

from cmunet_monai.engines import MixedBatchSampler, MixedDataset, SeededCacheDataset


def make_dataset(count, first=0):
    rows = [{"image": torch.full((1, 2, 2), float(first + number))} for number in range(count)]
    return SeededCacheDataset(rows, [RandScaleIntensityd("image", factors=0.1, prob=1.0)], progress=False)


@pytest.fixture
def mixed():
    return MixedDataset([make_dataset(3, first=1), make_dataset(10, first=100)])


def epoch_of(sampler, epoch=1):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_batch_holds_its_number_of_each_data_set_and_an_epoch_passes_the_pacing_one_once(mixed):
    batches = epoch_of(MixedBatchSampler(mixed, [2, 5], paced_by=1))
    assert [[part for part, _, _ in batch] for batch in batches] == [[0, 0, 1, 1, 1, 1, 1]] * 2
    assert sorted(index for batch in batches for part, index, _ in batch if part == 1) == list(range(10))


def test_a_small_data_set_is_passed_again_and_each_row_comes_equally_often(mixed):
    batches = epoch_of(MixedBatchSampler(mixed, [3, 2], paced_by=1))  # 15 samples of 3 rows
    places = [place for batch in batches for place in batch if place[0] == 0]
    assert len(set(places)) == 15
    assert Counter(index for _, index, _ in places) == {0: 5, 1: 5, 2: 5}
    assert Counter(repeat for _, _, repeat in places) == {0: 3, 1: 3, 2: 3, 3: 3, 4: 3}


def test_a_row_that_comes_again_is_drawn_anew_and_the_same_place_gives_the_same(mixed):
    mixed.set_epoch(1)
    first, second = mixed[0, 1, 0]["image"], mixed[0, 1, 1]["image"]
    assert not torch.equal(first, second)
    assert torch.allclose(first, torch.full((1, 2, 2), 2.0), rtol=0.11)
    assert torch.allclose(second, torch.full((1, 2, 2), 2.0), rtol=0.11)
    assert torch.equal(mixed[0, 1, 1]["image"], second)
    mixed.set_epoch(2)
    assert not torch.equal(mixed[0, 1, 0]["image"], first)


def test_the_order_depends_on_seed_and_epoch_alone(mixed):
    sampler, other = (MixedBatchSampler(mixed, [1, 2], paced_by=1, seed=seed) for seed in (0, 1))
    assert epoch_of(sampler, 3) == epoch_of(MixedBatchSampler(mixed, [1, 2], paced_by=1), 3)
    assert epoch_of(sampler, 3) != epoch_of(sampler, 4)
    assert epoch_of(sampler, 3) != epoch_of(other, 3)


def test_processes_share_an_epoch_without_overlap(mixed):
    parts = [epoch_of(MixedBatchSampler(mixed, [1, 2], paced_by=1, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [len(batches) for batches in parts] == [2, 2]  # 10 frames, 2 in each of 2 processes
    indices = [index for batches in parts for batch in batches for part, index, _ in batch if part == 1]
    assert len(set(indices)) == 8


def test_without_labels_a_batch_is_unlabelled_alone():
    mixed = MixedDataset([None, make_dataset(4)])
    assert len(mixed) == 4
    mixed.set_epoch(1)
    assert [len(batch) for batch in epoch_of(MixedBatchSampler(mixed, [2, 2], paced_by=1))] == [2, 2]


def test_too_few_frames_for_a_batch_are_refused(mixed):
    with pytest.raises(ValueError, match=r"the 10 frames .* are too few for one batch"):
        MixedBatchSampler(mixed, [1, 11], paced_by=1)


def test_counts_of_another_length_are_refused(mixed):
    with pytest.raises(ValueError, match="`counts` must hold 2 numbers"):
        MixedBatchSampler(mixed, [1], paced_by=0)
