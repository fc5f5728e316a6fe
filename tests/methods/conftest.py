"""What the tests of all methods share."""

import pytest
import torch


@pytest.fixture
def train_on():
    """Losses of a method that is trained on the same views again and again."""

    def train(method, views, *, learning_rate, steps):
        optimizer = torch.optim.AdamW(method.parameters(), lr=learning_rate)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = method(views)["loss"]
            loss.backward()
            optimizer.step()
            method.after_step()
            losses.append(loss.item())
        return losses

    return train
