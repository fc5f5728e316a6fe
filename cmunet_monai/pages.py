"""HTML pages, from templates that lie beside the code that fills them."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(package: str, template: str, **values: Any) -> str:
    """The page of a template of a package. Every value is escaped, also where it is in an attribute in quotes.

    Raises:
        jinja2.UndefinedError: if the template names a value that is not given.
    """
    pages = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(template).render(values)
