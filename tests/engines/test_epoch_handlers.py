import pytest
from ignite.engine import Engine

from cmunet_monai.engines.handlers import SetMethodProgress


class Recorder:
    def __init__(self):
        self.seen = []

    def set_progress(self, progress):
        self.seen.append(progress)


@pytest.mark.parametrize("epochs,expected", [(1, [0.0]), (3, [0.0, 0.5, 1.0])])
def test_progress_is_linear_in_epochs(epochs, expected):
    method = Recorder()
    engine = Engine(lambda *_: None)
    SetMethodProgress(method).attach(engine)
    engine.run([0], max_epochs=epochs)
    assert method.seen == expected


def test_a_method_inside_distributed_training_is_told():
    wrapper = type("Wrapper", (), {"module": Recorder()})()
    engine = Engine(lambda *_: None)
    SetMethodProgress(wrapper).attach(engine)
    engine.run([0], max_epochs=1)
    assert wrapper.module.seen == [0.0]
