import torch

from cmunet_monai.transforms import FillLabeld


def test_a_frame_without_a_label_gets_an_empty_one_and_the_flag_says_so():
    row = FillLabeld("label")({"image": torch.ones(1, 3, 4)})
    assert torch.equal(row["label"], torch.zeros(1, 3, 4))
    assert row["labelled"].dtype == torch.bool
    assert not row["labelled"]


def test_a_label_stays():
    label = torch.rand(1, 3, 4)
    row = FillLabeld("label")({"image": torch.ones(1, 3, 4), "label": label})
    assert row["label"] is label
    assert row["labelled"]
