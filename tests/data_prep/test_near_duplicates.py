import cv2
import numpy as np
import pytest

from data_prep.near_duplicates import Pair, connected_groups, content_pairs, same_shutter_pairs, thumbnail


def _texture(seed: int, side: int = 320) -> np.ndarray:
    """Smooth random detail of about the width of an artery, 40 to 220 grey levels."""
    noise = np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return np.clip(130 + 30 * smooth / smooth.std(), 40, 220)


def _view(texture: np.ndarray, down: int = 0, right: int = 0, side: int = 256) -> np.ndarray:
    return texture[32 + down : 32 + down + side, 32 + right : 32 + right + side]


def _shuttered(texture: np.ndarray, left: int, right: int) -> np.ndarray:
    """A 128 px frame that is black outside rows 16 to 111 and columns left to right - 1."""
    frame = np.zeros((128, 128), np.float32)
    frame[16:112, left:right] = texture[16:112, left:right]
    return frame


def test_shifted_darker_copy_is_the_same_content():
    texture = _texture(0)
    # 24 px of 256 are 6 of 64: within the 8 that are tried
    frames = [_view(texture), 0.6 * _view(texture, down=24, right=-20) + 30, _view(_texture(1))]
    pairs = content_pairs([thumbnail(frame) for frame in frames])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]
    assert pairs[0].score > 0.8


def test_copy_scores_one():
    frame = thumbnail(_view(_texture(2)))
    assert [(pair.first, pair.second, pytest.approx(1, abs=1e-5)) for pair in content_pairs([frame, frame.copy()])] == [
        (0, 1, 1.0)
    ]


def test_copy_shifted_beyond_the_reach_is_not_found():
    texture = _texture(3)
    # 12 px of 64, where 8 are tried and detail is 1.25 px wide
    assert content_pairs([thumbnail(_view(texture, right=24)), thumbnail(_view(texture, right=-24))]) == []


def test_sixteen_bits_score_as_eight():
    first, second = _view(_texture(4)), 0.5 * _view(_texture(4), right=8) + 0.5 * _view(_texture(5))
    eight = content_pairs([thumbnail(first.astype(np.uint8)), thumbnail(second.astype(np.uint8))])
    sixteen = content_pairs(
        [thumbnail(257 * first.astype(np.uint8).astype(np.uint16)), thumbnail(second.astype(np.uint8))]
    )
    assert len(eight) == 1
    assert sixteen[0].score == pytest.approx(eight[0].score, abs=1e-4)


def test_score_does_not_depend_on_the_order_of_the_frames():
    texture = _texture(6)
    first = thumbnail(_view(texture))
    second = thumbnail(0.7 * _view(texture, down=-16, right=8) + 0.3 * _view(_texture(7)))
    forth, back = content_pairs([first, second]), content_pairs([second, first])
    assert len(forth) == 1
    assert forth[0].score == pytest.approx(back[0].score, abs=1e-5)


def test_more_frames_than_a_block_are_all_compared(monkeypatch):
    monkeypatch.setattr("data_prep.near_duplicates._BLOCK_ROWS", 2)
    frames = [thumbnail(_view(_texture(seed))) for seed in (10, 11, 12, 13, 10)]
    assert [(pair.first, pair.second) for pair in content_pairs(frames)] == [(0, 4)]


def test_same_shutters_on_different_content_are_no_near_duplicate():
    frames = [_shuttered(_texture(seed), 20, 108) for seed in (20, 21)]
    assert content_pairs(frames) == []
    assert same_shutter_pairs(frames) == [Pair(0, 1, 1.0)]


def test_shutter_score_is_the_iou_of_the_fields():
    # 96 columns each, shifted by 4: 92 in common, 100 together
    frames = [_shuttered(_texture(22), 16, 112), _shuttered(_texture(23), 20, 116)]
    assert same_shutter_pairs(frames) == []
    assert same_shutter_pairs(frames, min_iou=0.9) == [Pair(0, 1, 0.92)]


def test_strip_between_shutter_and_edge_of_the_frame_is_not_irradiated():
    # 7 dark columns on either side, narrower than the holes that are closed: 114 of 128 are below 90%
    frames = [np.pad(_texture(seed)[:128, :114], ((0, 0), (7, 7))) for seed in (24, 25)]
    assert same_shutter_pairs(frames) == [Pair(0, 1, 1.0)]


def test_open_fields_are_no_shutter_pair():
    assert same_shutter_pairs([thumbnail(_view(_texture(seed))) for seed in (26, 27)]) == []


@pytest.mark.parametrize("value", [0, 7, 60_000])
def test_constant_frames_resemble_nothing(value):
    frames = [thumbnail(np.full((256, 256), value, np.uint16)) for _ in range(2)]
    assert content_pairs(frames) == []


def test_fewer_than_two_frames_give_no_pair():
    assert content_pairs([]) == []
    assert content_pairs([thumbnail(_view(_texture(8)))]) == []
    assert same_shutter_pairs([]) == []


def test_frames_are_not_modified():
    frames = [thumbnail(_view(_texture(9))), _shuttered(_texture(9), 20, 108)]
    before = [frame.copy() for frame in frames]
    content_pairs(frames)
    same_shutter_pairs(frames)
    for frame, copy in zip(frames, before, strict=True):
        np.testing.assert_array_equal(frame, copy)


def test_groups_join_what_pairs_link():
    pairs = [Pair(1, 4, 0.9), Pair(2, 3, 0.5), Pair(0, 4, 0.4)]
    assert connected_groups(6, pairs) == [0, 0, 2, 2, 0, 5]
