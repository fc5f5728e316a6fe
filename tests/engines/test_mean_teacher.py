import pytest
import torch
from ignite.engine import Engine

from cmunet_monai.engines import MeanTeacher
from cmunet_monai.networks import UNet


def make_pair(momentum=0.9):
    torch.manual_seed(0)
    student, teacher = (UNet(channels=(4, 8, 16)) for _ in range(2))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    return student, teacher, optimizer, MeanTeacher(student, teacher, optimizer, momentum=momentum)


def start(mean_teacher, iteration=0):
    engine = Engine(lambda *_: None)
    engine.state.iteration = iteration
    mean_teacher.start(engine)


def step(student, optimizer):
    optimizer.zero_grad()
    student.train()(torch.randn(2, 1, 16, 16)).square().mean().backward()
    optimizer.step()


def test_the_teacher_begins_as_the_student_and_is_never_trained():
    student, teacher, _, mean_teacher = make_pair()
    start(mean_teacher)
    assert all(torch.equal(teacher.state_dict()[key], value) for key, value in student.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training


def test_its_weights_and_statistics_are_the_average_by_hand():
    student, teacher, optimizer, mean_teacher = make_pair(momentum=0.15)
    start(mean_teacher)
    expected = {key: value.clone() for key, value in student.state_dict().items()}
    for number in range(3):
        step(student, optimizer)
        momentum = min(0.15, (1 + number) / (10 + number))  # 1/10, then 0.15
        for key, value in student.state_dict().items():
            mean = momentum * expected[key] + (1 - momentum) * value
            expected[key] = mean if value.is_floating_point() else value.clone()
    for key, value in teacher.state_dict().items():
        assert torch.allclose(value.double(), expected[key].double(), atol=1e-6), key


def test_a_resumed_run_keeps_the_teacher_that_was_loaded():
    _, teacher, _, mean_teacher = make_pair()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    start(mean_teacher, iteration=7)
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert mean_teacher.step == 7


def test_the_teacher_answers_for_the_unlabelled_frames_from_their_clean_views():
    _, teacher, _, mean_teacher = make_pair()
    start(mean_teacher)
    batch = {
        "image": torch.randn(3, 1, 16, 16),
        "clean": torch.randn(3, 1, 16, 16),
        "label": torch.zeros(3, 1, 16, 16),
        "labelled": torch.tensor([True, False, False]),
    }
    image, target = mean_teacher.prepare_batch(batch, "cpu")
    assert torch.equal(image, batch["image"])
    with torch.no_grad():
        expected = teacher(batch["clean"][1:]).softmax(1)[:, 1:]
    assert torch.allclose(target["teacher"][1:], expected, atol=1e-6)
    assert not target["teacher"][0].any()
    assert target["labelled"].tolist() == [True, False, False]


@pytest.mark.parametrize("labelled", [True, False])
def test_batches_of_one_kind_work(labelled):
    _, _, _, mean_teacher = make_pair()
    start(mean_teacher)
    views = {name: torch.randn(2, 1, 16, 16) for name in ("image", "clean", "label")}
    _, target = mean_teacher.prepare_batch({**views, "labelled": torch.tensor([labelled] * 2)}, "cpu")
    assert bool(target["teacher"].any()) != labelled
