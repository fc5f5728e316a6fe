from cmunet_monai.label.guard import Known
from cmunet_monai.label.page import front_page

KNOWN = Known(model=("segment", "click<b>"), trainer=("train",), strategy=("uncertain",), scoring=("dice",))


def test_words_cannot_become_markup_and_what_to_type_is_code():
    page = front_page(labels=["<i>&", "artery"], known=KNOWN, token=False)
    assert "<td>&lt;i&gt;&amp;, artery</td>" in page
    assert "field <code>Model</code>: click&lt;b&gt;; choose" in page
    assert "<i>" not in page
    assert "click<b>" not in page
    assert "`" not in page


def test_the_login_is_shown_where_there_is_one():
    pages = [front_page(labels=[], known=KNOWN, token=token) for token in (False, True)]
    assert ["<code>Password</code> is the server&#39;s token" in page for page in pages] == [False, True]
