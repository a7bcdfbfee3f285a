"""The page in a real browser: nothing fails to load, nothing overflows."""

import shutil

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
WAIT_MS = 180_000
"""A busy machine opens a page slowly; that is nothing the tests are about."""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium on PATH; on Debian, as root: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(params=[1280, 420])
def opened(browser, full_page, request):
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(WAIT_MS)
    page.messages, page.requests = [], []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("request", lambda sent: page.requests.append(sent.url))
    page.goto(full_page.as_uri())
    yield page
    page.close()


@pytest.mark.slow
def test_page_opens_clean(opened):
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    width, room = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room
    assert opened.evaluate("document.images.length") > 20
    assert opened.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    slices = opened.evaluate(
        """async () => {
            const sources = [...document.querySelectorAll("svg image")].map((image) => image.href.baseVal);
            const sizes = sources.map(async (source) => {
                const image = new Image();
                image.src = source;
                await image.decode();
                return image.naturalWidth;
            });
            return Promise.all(sizes);
        }"""
    )
    assert len(slices) > 10
    assert min(slices) > 10


@pytest.mark.slow
def test_case_switcher_and_outlines(opened):
    section = opened.locator("#examples")
    buttons, cases = section.locator(".switcher button"), section.locator(".case")
    assert buttons.count() == cases.count() > 1
    buttons.nth(1).click()
    assert [cases.nth(i).is_visible() for i in range(cases.count())].index(True) == 1
    outline = cases.nth(1).locator("path.truth").first
    assert outline.is_visible()
    section.locator(".outline-switch").uncheck()
    assert not outline.is_visible()


@pytest.mark.slow
def test_without_script_every_case_is_visible(browser, full_page):
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(full_page.as_uri())
    cases = page.locator("#examples .case")
    assert cases.count() > 1
    assert all(cases.nth(i).is_visible() for i in range(cases.count()))
    context.close()


@pytest.fixture(params=["screen 1280", "screen 420", "print 688"])
def experiment(browser, experiment_folder, request):
    """The page of an experiment on a screen, a telephone, and an A4 sheet (182 mm at 96 dots an inch)."""
    media, width = request.param.split()
    page = browser.new_page(viewport={"width": int(width), "height": 900})
    page.set_default_timeout(WAIT_MS)
    page.messages, page.requests = [], []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("request", lambda sent: page.requests.append(sent.url))
    page.emulate_media(media=media)
    page.goto((experiment_folder / "report.html").as_uri())
    yield page
    page.close()


@pytest.mark.slow
def test_experiment_opens_clean_and_fits_screen_and_paper(experiment):
    assert experiment.messages == []
    assert [url for url in experiment.requests if not url.startswith(("file:", "data:"))] == []
    width, room = experiment.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room
    images = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    assert experiment.evaluate(images)
    assert experiment.evaluate("document.images.length") > 10


@pytest.mark.slow
def test_experiment_can_be_read_without_seeing_it(experiment):
    assert experiment.evaluate("document.documentElement.lang") == "en"
    assert experiment.evaluate("[...document.images].every((image) => image.alt.length > 20)")
    assert experiment.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
    assert experiment.evaluate("document.querySelectorAll('h1').length") == 1
