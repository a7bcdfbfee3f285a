"""The pages' templates, which share one style."""

from __future__ import annotations

import jinja2


def page_template(name: str) -> jinja2.Template:
    """The template of a page, ``name`` a file of this package.

    Ids, titles, classes and findings are what others wrote: everything is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mtinet.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
