"""A page on paper: PDF by WeasyPrint, which the extra ``pdf`` installs."""

from __future__ import annotations

import importlib
import logging

from mtinet.errors import UserError


def check_weasyprint() -> None:
    """Refuse where WeasyPrint or a library that it needs is not installed.

    Raises
    ------
    UserError
        With how to install what is missing.
    """
    try:
        importlib.import_module("weasyprint")
    except ImportError:
        raise UserError(
            "the format pdf needs WeasyPrint, which is not installed: pip install 'mtinet[pdf]', or leave pdf out"
        ) from None
    except OSError as error:
        # its C libraries are not Python packages
        raise UserError(
            f"the format pdf needs the Pango library, which is not installed ({error}); on Debian, as root: "
            "apt-get install libpango-1.0-0 libpangoft2-1.0-0, or leave pdf out"
        ) from None


def page_to_pdf(html: str) -> bytes:
    """A page as an A4 PDF.

    Parameters
    ----------
    html : str
        A page that holds everything it shows: nothing is fetched.

    Raises
    ------
    UserError
        WeasyPrint is not installed.
    """
    check_weasyprint()
    weasyprint = importlib.import_module("weasyprint")

    inside_only = weasyprint.urls.URLFetcher(allowed_protocols=["data"])
    # it remarks on every style of screens that paper lacks
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    content: bytes = weasyprint.HTML(string=html, url_fetcher=inside_only).write_pdf()
    return content
