import math

import pytest
import torch
from monai.losses import DiceCELoss

from cmunet_monai.losses import MeanTeacherLoss
from cmunet_monai.losses.mean_teacher import confident, confident_pixel_loss


def logits_of(probability):
    """(B, 1, H, W) probability of an artery -> logits of two classes."""
    return torch.cat([torch.zeros_like(probability), torch.logit(probability)], dim=1)


def test_a_pixel_is_sure_from_the_threshold_on_for_or_against():
    probability = torch.tensor([0.0, 0.2, 0.21, 0.5, 0.79, 0.8, 1.0])
    assert confident(probability, 0.8).tolist() == [True, True, False, False, False, True, True]


def test_the_loss_is_that_by_hand():
    teacher = torch.tensor([[[[0.9, 0.1, 0.6]]]])  # artery, background, unsure
    student = torch.tensor([[[[0.7, 0.4, 0.99]]]])
    cross_entropy = -(math.log(0.7) + math.log(0.6)) / 2
    dice = 1 - (2 * 0.7 + 1) / (0.7 + 0.4 + 1 + 1)
    loss = confident_pixel_loss(logits_of(student), teacher, threshold=0.8)
    assert loss.item() == pytest.approx(cross_entropy + dice, rel=1e-5)


def test_pixels_below_the_threshold_have_no_gradient():
    torch.manual_seed(0)
    teacher = torch.rand(2, 1, 8, 8)
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    confident_pixel_loss(logits, teacher, threshold=0.8).backward()
    unsure = ((teacher < 0.8) & (teacher > 0.2)).expand_as(logits)
    assert unsure.any()
    assert not logits.grad[unsure].any()
    assert logits.grad[~unsure].all()


def test_a_teacher_that_is_sure_of_nothing_teaches_nothing():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    confident_pixel_loss(logits, torch.full((1, 1, 4, 4), 0.5), threshold=0.8).backward()
    assert not logits.grad.any()


def make_batch():
    torch.manual_seed(0)
    label = (torch.rand(3, 1, 8, 8) > 0.7).float()
    target = {"label": label, "labelled": torch.tensor([True, False, False]), "teacher": torch.rand(3, 1, 8, 8)}
    return torch.randn(3, 2, 8, 8), target


def test_labelled_and_unlabelled_frames_each_have_their_own_loss():
    logits, target = make_batch()
    supervised = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(logits[:1], target["label"][:1])
    unlabelled = confident_pixel_loss(logits[1:], target["teacher"][1:], threshold=0.8)
    loss = MeanTeacherLoss(threshold=0.8, unlabelled_weight=0.5)(logits, target)
    assert loss.item() == pytest.approx((supervised + 0.5 * unlabelled).item(), rel=1e-6)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_batch_of_one_kind_has_that_loss_alone(labelled):
    logits, target = make_batch()
    target["labelled"][:] = labelled
    loss = MeanTeacherLoss(threshold=0.8)(logits, target)
    expected = (
        DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(logits, target["label"])
        if labelled
        else confident_pixel_loss(logits, target["teacher"], threshold=0.8)
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("threshold", [0.4, 1.0])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match="`threshold`"):
        MeanTeacherLoss(threshold=threshold)
