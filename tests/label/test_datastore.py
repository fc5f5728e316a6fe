"""The registry of frames, where MONAI Label is."""

import logging

import pytest

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make test-label")

from cmunet_monai.label.datastore import REGISTRY, set_damaged_registry_aside


def test_a_damaged_registry_is_kept_aside_and_a_whole_one_stays(tmp_path, caplog):
    registry = tmp_path / REGISTRY
    set_damaged_registry_aside(tmp_path)
    registry.write_text('{"objects": {}}')
    set_damaged_registry_aside(tmp_path)
    assert registry.read_text() == '{"objects": {}}'
    registry.write_text('{"objects": ')
    with caplog.at_level(logging.WARNING):
        set_damaged_registry_aside(tmp_path)
    assert not registry.exists()
    assert registry.with_suffix(".damaged").read_text() == '{"objects": '
    assert "is damaged" in caplog.text
