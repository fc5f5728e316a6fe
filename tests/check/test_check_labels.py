import numpy as np
import pytest
from PIL import Image

from cmunet_monai.check.labels import check_labels


def rows(folder, shares, side=100):
    """A frame and a label with each share of vessel."""
    for number, share in enumerate(shares):
        mask = np.zeros(side * side, np.uint8)
        mask[: round(share * mask.size)] = 255
        Image.fromarray(mask.reshape(side, side)).save(folder / f"label_{number}.png")
        Image.new("L", (side, side), 9).save(folder / f"frame_{number}.png")
    return [{"image": f"frame_{n}.png", "label": f"label_{n}.png"} for n in range(len(shares))]


def test_labels_of_about_the_same_share_are_not_named(tmp_path):
    assert check_labels(rows(tmp_path, [0.02, 0.03, 0.05, 0.08]), tmp_path, where="list") == ([], [])


@pytest.mark.parametrize(
    "share, said",
    [
        (0, "1 label(s) without vessel: label_3.png"),
        (0.001, "median of 3.0%: label_3.png (0.1%)"),
        (0.2, "median of 3.5%: label_3.png (20.0%)"),
    ],
)
def test_outliers_are_named_with_their_share(tmp_path, share, said):
    problems, remarks = check_labels(rows(tmp_path, [0.03, 0.03, 0.04, share]), tmp_path, where="list")
    assert problems == []
    assert len(remarks) == 1
    assert said in remarks[0]


def test_a_label_that_is_mostly_vessel_is_a_mistake(tmp_path):
    problems, _ = check_labels(rows(tmp_path, [0.03, 0.97]), tmp_path, where="list")
    assert len(problems) == 1
    assert "more than half of the frame as vessel (inverted?): label_1.png (97.0%)" in problems[0]


def test_labels_that_cannot_be_used_are_mistakes_by_name_and_counted_beyond_twenty(tmp_path):
    listed = rows(tmp_path, [0.03] * 24)
    for number in range(22):
        Image.new("L", (9, 9)).save(tmp_path / f"label_{number}.png")
    (tmp_path / "label_0.png").write_bytes(b"%!PS loop")
    (tmp_path / "label_1.png").write_bytes((tmp_path / "label_22.png").read_bytes()[:60])
    problems, _ = check_labels(listed, tmp_path, where="list")
    assert "label_0.png: no label: it is no PNG file but PostScript" in problems[0]
    assert "label_1.png: no label: it is cut or damaged" in problems[1]
    assert "label_2.png: it is 9 x 9, its frame 100 x 100" in problems[2]
    assert problems[20:] == ["list: 2 more labels cannot be used"]
