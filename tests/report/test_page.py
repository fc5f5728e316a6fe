import re
import shutil
from html.parser import HTMLParser

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from cmunet_monai.report.command import main
from cmunet_monai.report.figures import DPI, draw_finetuning, styles
from cmunet_monai.report.study_runs import read_runs
from tests.report.conftest import write_rows


class Reader(HTMLParser):
    """Every tag's attributes, and the text; the tags must close."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def report(study, *options):
    output = study.folder / "report"
    assert main([str(study.folder), "--output", str(output), *options]) == 0
    return Reader((output / "index.html").read_text(encoding="utf-8")), output


def images(page):
    return [attributes["src"] for tag, attributes in page.tags if tag == "img"]


def test_the_page_is_one_file_that_asks_for_nothing_else(study):
    page, _ = report(study, "--pictures")
    assert images(page)
    assert all(source.startswith("data:image/") for source in images(page))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "video"}
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert all(link.startswith("#") for link in links)
    style = page.words[[tag for tag, _ in page.tags].index("style") :]
    assert "url(" not in "".join(style)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_no_frame_and_no_name_of_a_frame_is_shown_unless_asked_for(study):
    for cell in study.folder.glob("labels_18/draw_*/*/evaluation"):
        table = cell / "per_image.csv"
        table.write_text(re.sub(r"^(a|b|c),(a|b|c),", r"frame_\1,patient_\2,", table.read_text(), flags=re.M))
        for path in cell.glob("overlays/*.png"):
            path.rename(path.with_stem(f"frame_{path.stem}"))
    page, output = report(study)
    plots = {f"{name}.png" for name in ("label_numbers", "diameters_18", "pretraining_loss", "finetuning")}
    assert {path.name for path in output.glob("*.png")} == plots
    assert len(images(page)) == len(plots)
    assert all(source.startswith("data:image/png") for source in images(page))  # frames would be JPEG
    html = (output / "index.html").read_text(encoding="utf-8")
    assert "frame_a" not in html
    assert "patient_a" not in html
    assert "No frame and no identifier of a frame is on this page" in page.text
    page, output = report(study, "--pictures")
    # three cases of each of two methods, and one reconstruction
    assert sum(source.startswith("data:image/jpeg") for source in images(page)) == 7
    assert "frame_a" in page.text
    assert "pictures of patients and remain personal data" in page.text


def test_a_picture_that_is_not_there_is_named(study):
    for path in study.folder.glob("labels_18/draw_*/none/evaluation/overlays/b.png"):
        path.unlink()
    page, _ = report(study, "--pictures")
    assert "b.png is not there" in page.text


def test_evaluations_without_overlays_are_said_so_once_a_method(study):
    for folder in study.folder.glob("labels_18/draw_*/none/evaluation/overlays"):
        shutil.rmtree(folder)
    page, _ = report(study, "--pictures")
    assert page.text.count("the evaluations wrote no overlays") == 1
    assert "is not there" not in page.text
    assert sum(source.startswith("data:image/jpeg") for source in images(page)) == 4  # of cm_unet


def test_every_number_has_its_file_its_command_and_its_digest(study):
    page, output = report(study)
    assert "labels_18/draw_1/cm_unet/evaluation/per_image.csv" in page.text
    assert "# 18 labels, draw 1, cm_unet: final fit python -m monai.bundle run --seed 1" in page.text
    assert "sha256 111111111111, git_revision abc123" in page.text
    assert "secret" not in (output / "index.html").read_text(encoding="utf-8")
    assert "1" * 64 in (output / "sources.csv").read_text()


def test_the_primary_comparison_stands_first_and_says_who_named_it(study):
    page, _ = report(study)
    assert "Primary comparison cm_unet against none, Dice, 18 labelled images: no difference shown" in page.text
    assert "the program's default" in page.text
    page, _ = report(study, "--primary", "cm_unet:cl_dice:18")
    assert "Primary comparison cm_unet against none, clDice" in page.text
    assert "Named on the command line" in page.text


def test_an_absent_primary_comparison_is_said_to_be(study):
    with pytest.raises(ValueError, match="no such method and label set, but cm_unet:METRIC:18, none:METRIC:18"):
        main([str(study.folder), "--output", str(study.folder / "report"), "--primary", "mae:dice:50"])
    write_rows(study.folder / "plan.csv", [{"labels": "50", "draw": 0, "method": "mae"}])
    page, _ = report(study, "--primary", "mae:dice:50")
    text = "Not made : there is no finished cell for mae against none, Dice, 50 labelled images."
    assert text in page.text


@pytest.mark.parametrize(
    "option, value", [("--baseline", "nothing"), ("--test", "nothing"), ("--primary", "cm_unet:nothing:18")]
)
def test_a_value_that_cannot_be_is_named_by_its_option(study, option, value):
    with pytest.raises(ValueError, match=option):
        main([str(study.folder), "--output", str(study.folder / "report"), option, value])


def test_with_another_baseline_no_comparison_is_primary_unless_named(study):
    page, _ = report(study, "--baseline", "cm_unet")
    assert "None is named for cm_unet as baseline: all comparisons are exploratory." in page.text
    assert "report STUDY_OUTPUT --output DIR --baseline cm_unet" in page.text
    page, _ = report(study, "--baseline", "cm_unet", "--primary", "none:dice:18")
    assert "Primary comparison none against cm_unet, Dice" in page.text


def test_a_primary_comparison_of_a_part_of_the_planned_draws_is_interim(study):
    assert "Interim" not in report(study)[0].text
    rows = [{"labels": "18", "draw": draw, "method": name} for draw in range(3) for name in ("none", "cm_unet")]
    write_rows(study.folder / "plan.csv", rows)
    page, _ = report(study)
    assert "Interim : 3 runs of both are planned." in page.text
    assert "18 labels, cm_unet: no finished cell of draw 2 (not begun)" in page.text


def test_seeds_of_one_draw_of_labels_are_not_called_draws(study):
    assert "2 runs, each with its own seed, on 2 draws of labels." in report(study)[0].text
    for cell in study.cells:
        cell["label_draw"] = 0
    write_rows(study.folder / "cells.csv", study.cells)
    words = "2 runs, each with its own seed, on 1 draw of labels. All have the same labelled images: intervals are over"
    assert words in report(study)[0].text


def test_weights_from_a_file_are_not_said_to_cost_nothing(study):
    for cell in study.cells:
        if cell["method"] == "cm_unet":
            cell |= {"pretraining_epochs": "", "pretraining_seconds": ""}
    write_rows(study.folder / "cells.csv", study.cells)
    assert "cm_unet 18 not by this study not by this study 60" in report(study)[0].text
    assert "none 18 0 0 60" in report(study)[0].text


def test_a_label_set_keeps_its_name(study):
    study.add("none", 0, [0.5, 0.6, 0.7], labels="Full_A")
    assert "Label set Full_A" in report(study)[0].text


def test_how_rates_were_chosen_is_said_as_it_was(study):
    assert (
        "18 labelled images: rates were chosen by 3 folds inside the labelled images of each draw."
        in report(study)[0].text
    )
    for cell in study.cells:
        cell |= {"choice_folds": 1, "choice_draw": 0}
    write_rows(study.folder / "cells.csv", study.cells)
    assert (
        "rates were chosen by 1 fold inside the labelled images of the first draw, for all draws."
        in report(study)[0].text
    )


@pytest.mark.parametrize("length", ["0", "-50", "nan", "inf"])
def test_a_diagonal_that_is_no_length_is_refused(study, length, capsys):
    with pytest.raises(SystemExit):
        main([str(study.folder), "--output", str(study.folder / "report"), f"--diagonal-px={length}"])
    assert "must be a positive number of pixels" in capsys.readouterr().err


def test_an_unfinished_study_is_reported_as_far_as_it_is(study):
    study.drop("cm_unet", 0)
    study.drop("cm_unet", 1)
    page, _ = report(study)
    assert "18 labels, cm_unet: no finished cell of draw 0, 1 (begun: 0, 1)" in page.text
    assert "Not everything is there" in page.text
    assert "Not made" in page.text


def test_a_study_without_records_is_reported_and_they_are_said_to_lack(study):
    for path in study.folder.rglob("run.json"):
        path.unlink()
    page, output = report(study)
    assert {path.name for path in output.glob("*.png")} == {"label_numbers.png", "diameters_18.png"}
    assert "no run has its run.json" in page.text
    assert "(no run.json)" in page.text


def test_words_of_a_study_cannot_become_markup(study):
    study.add("a<b>&c", 0, [0.5, 0.6, 0.7])
    page, _ = report(study)
    assert "a<b>&c" in page.text


def test_label_sets_with_names_and_with_numbers_are_both_drawn(study, drawn):
    study.add("none", 0, [0.5, 0.6, 0.7], labels="all")
    _, output = report(study)
    assert (output / "diameters_all.png").is_file()


def test_an_entirely_empty_prediction_has_no_diameters_and_is_reported(study, drawn):
    study.folder = study.folder.with_name("other")
    study.cells = []
    study.add("none", 0, [0.0, 0.0, 0.0])
    page, _ = report(study)
    assert "3 pairs left out" in page.text


def test_the_same_study_gives_the_same_page(study, drawn):
    first = (report(study)[1] / "index.html").read_bytes()
    assert (report(study)[1] / "index.html").read_bytes() == first


def test_figures_are_wide_enough_to_print(study, drawn):
    _, output = report(study)
    with Image.open(output / "label_numbers.png") as picture:
        assert picture.width == pytest.approx(7.2 * DPI, abs=2)


def test_a_legend_of_many_long_names_stays_inside_its_figure(study):
    for number in range(11):
        study.add(f"cm_unet_with_something_{number}", 0, [0.5, 0.6, 0.7])
    runs = read_runs(study.folder)
    figure = draw_finetuning(runs, "none")
    figure.canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_no_two_of_twenty_methods_look_alike_and_eight_differ_in_colour_marker_and_line():
    names = ["none", *(f"method_{number}" for number in range(20))]
    looks = list(styles(names, "none").values())
    assert len({str(look) for look in looks}) == len(names)
    for part in ("color", "marker", "linestyle"):
        assert len({look[part] for look in looks[:9]}) == 9
    filled = [look.get("markerfacecolor") == look["color"] for look in looks[1:]]
    assert filled == [True] * 8 + [False] * 12  # the ninth has the first one's colour, and a hollow marker
