import configparser
import fnmatch
import subprocess
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from cmunet_monai.handover.release import installed_files
from cmunet_monai.pages import render_page

ROOT = Path(__file__).parents[1]


def test_values_cannot_become_markup_in_text_or_in_attributes(tmp_path, monkeypatch):
    (tmp_path / "some_pages").mkdir()
    (tmp_path / "some_pages" / "__init__.py").touch()
    (tmp_path / "some_pages" / "page.html.jinja").write_text(
        '<p title="{{ x }}">{{ x }} {{ [x, x]|join("<br>"|safe) }}</p>'
    )
    monkeypatch.syspath_prepend(tmp_path)
    shown = "&lt;b&gt;&amp;&#34;&#39;{{ 1 }}"
    text = render_page("some_pages", "page.html.jinja", x="<b>&\"'{{ 1 }}")
    assert text == f'<p title="{shown}">{shown} {shown}<br>{shown}</p>'
    with pytest.raises(UndefinedError, match="'x' is undefined"):
        render_page("some_pages", "page.html.jinja")


def test_a_handed_over_wheel_holds_the_templates_too():
    templates = {name for name in installed_files() if name.endswith(".jinja")}
    assert templates == {"cmunet_monai/label/page.html.jinja", "cmunet_monai/report/page.html.jinja"}


def test_every_template_is_installed_with_its_package():
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.jinja"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert len(names) == 3
    for package, name in (path.split("/", 1) for path in names):
        patterns = setup["options.package_data"][package].split()
        assert any(fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns), (
            name
        )
        text = (ROOT / package / name).read_text(encoding="utf-8")
        assert "|safe" not in text.replace('"<br>"|safe', "")
        assert "autoescape" not in text
