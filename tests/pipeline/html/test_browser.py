"""report.html in a real browser: no errors, no network, the 3D view is drawn and turns, links lead somewhere."""

import base64
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.html import write_html
from pipeline.html.benchmark import write_benchmark_html
from tests.pipeline.html.benchmark_result import benchmark_result
from tests.pipeline.html.finished_run import BREAKING_OUT, NAMES, finished_run

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: install chromium and chromium-driver (Debian) to run these"
)
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu-sandbox --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --disable-dev-shm-usage --use-gl=angle --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --disable-gpu-rasterization --disable-gpu-compositing --window-size=760,600"
)
DRAWN = "return document.documentElement.classList.contains('ready') && !!document.querySelector('.view.drawn')"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_html(*finished_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def browser(path, tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for switch in SWITCHES.split():
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.page_load_strategy = "none"
    options.timeouts = {"script": 110_000}  # a busy machine draws slowly without a graphics card
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get(path.as_uri())
        _wait(driver, DRAWN)
        yield driver
    finally:
        driver.quit()


def _wait(browser, condition: str, limit_s: float = 300) -> None:
    end = time.monotonic() + limit_s
    while not browser.execute_script(condition):
        assert time.monotonic() < end, f"the page never got there: {condition}"
        time.sleep(0.1)


def _until(value: Callable[[], np.ndarray], right: Callable[[np.ndarray], bool], limit_s: float = 200) -> np.ndarray:
    """The value, as soon as it is right. A picture that takes the driver over ten seconds is asked for again."""
    from selenium.common.exceptions import TimeoutException

    end = time.monotonic() + limit_s
    while True:
        try:
            if right(found := value()):
                return found
        except TimeoutException:
            pass
        assert time.monotonic() < end, "it never came out right"
        time.sleep(0.1)


def _picture(browser) -> np.ndarray:
    """(H, W, 3) pixels of the 3D view."""
    png = browser.find_element("css selector", ".view").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def _eye(browser) -> np.ndarray:
    script = "const c = document.querySelector('.view .canvas').layout.scene.camera.eye; return [c.x, c.y, c.z]"
    return np.array(browser.execute_script(script))


def test_loads_quietly_and_calls_nobody(browser, path):
    serious = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert serious == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    own = [r["request"]["url"] for r in requests if r["documentURL"].startswith(path.as_uri())]
    assert path.as_uri() in own  # the log does record requests
    assert [url for url in own if url != path.as_uri() and not url.startswith(("data:", "blob:"))] == []


def test_no_name_runs(browser):
    assert browser.execute_script("return window.broken === undefined")
    captions = [element.text for element in browser.find_elements("css selector", ".photo figcaption")]
    assert sorted(caption.splitlines()[0] for caption in captions) == sorted(NAMES)


def test_every_figure_is_drawn(browser):
    plots = browser.find_elements("css selector", ".plot")
    assert len(plots) >= 12
    assert [p.get_attribute("id") for p in plots if not p.find_elements("css selector", "svg.main-svg")] == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_model_is_drawn_and_turns(browser):
    from selenium.webdriver import ActionChains

    view = browser.find_element("css selector", ".view")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", view)

    def has_cameras(picture: np.ndarray) -> bool:
        return (np.abs(picture - (90, 200, 255)).sum(axis=2) < 120).sum() > 150

    before, eye = _until(lambda: _picture(browser), has_cameras), _eye(browser)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200
    ActionChains(browser).move_to_element(view).click_and_hold().move_by_offset(160, 40).release().perform()
    _until(lambda: _eye(browser), lambda now: np.linalg.norm(now - eye) > 0.1)
    _until(lambda: _picture(browser), lambda now: (np.abs(now - before).sum(axis=2) > 60).mean() > 0.002)
    view.find_element("css selector", ".reset").click()
    _until(lambda: _eye(browser), lambda now: np.allclose(now, eye, atol=1e-6))


def test_a_camera_shows_its_photograph(browser):
    shown = browser.execute_script(
        """const canvas = document.querySelector('.view .canvas');
        const cards = [...document.querySelectorAll('.photo')];
        const number = Number(cards.find((card) => card.dataset.name === arguments[0]).id.slice(6));
        const trace = canvas.data.find((t) => t.meta === 'cameras');
        for (let k = 0; k < trace.x.length; k++) {
          canvas.emit('plotly_hover', { points: [{ data: trace, pointNumber: k }], event: {} });
          const hover = canvas.parentElement.querySelector('.hover');
          if (hover.textContent === arguments[0])
            return [hover.hidden, hover.querySelector('img').src === cards[number].querySelector('img').src];
        }
        return null""",
        BREAKING_OUT,
    )
    assert shown == [False, True]


def test_links_lead_somewhere(browser, path):
    links = browser.execute_script("return [...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))")
    inside = [link[1:] for link in links if link.startswith("#")]
    assert len(inside) >= 10 and {"report.json", "sparse/0"} <= set(links)
    missing = [
        name for name in inside if not browser.execute_script("return !!document.getElementById(arguments[0])", name)
    ]
    assert missing == []
    assert [link for link in links if not link.startswith("#") and not (path.parent / link).exists()] == []
    browser.find_element("css selector", "nav a[href='#recipe']").click()
    _wait(browser, "return document.getElementById('recipe').getBoundingClientRect().top < window.innerHeight")


def test_dark_and_print(browser):
    def background() -> str:
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    def grid() -> str:
        return browser.execute_script("return document.getElementById('plot-tracks').layout.yaxis.gridcolor")

    for scheme in ("light", "dark"):
        value = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": value})
        time.sleep(0.3)
        if scheme == "light":
            light = background(), grid()
    assert background() != light[0]
    _wait(browser, f"return document.getElementById('plot-tracks').layout.yaxis.gridcolor !== '{light[1]}'")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    assert not browser.execute_script("return document.documentElement.classList.contains('paper')")


def test_a_benchmark_page_loads_quietly(browser, tmp_path):
    browser.get(write_benchmark_html(tmp_path, benchmark_result()).as_uri())
    _wait(browser, "return document.documentElement.classList.contains('ready')")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert browser.execute_script("return window.broken === undefined")
    plots = browser.find_elements("css selector", ".plot")
    assert len(plots) == 4 and all(plot.find_elements("css selector", "svg.main-svg") for plot in plots)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
