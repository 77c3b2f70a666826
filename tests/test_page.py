"""The interactive page in a real browser: Chromium, driven by selenium. Without one the tests are skipped, and say so;
where FBWRAP_BROWSER=required (CI) they fail."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile

import numpy as np
import pytest
from digits import FOLDER, NETWORKS
from PIL import Image

REQUIRED = os.environ.get("FBWRAP_BROWSER") == "required"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER) and not REQUIRED,
        reason="no Chromium with its chromedriver here: apt-get install chromium chromium-driver",
    ),
]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,1700"
)


class Page:
    """One ``fbwrap ui`` in a process of its own, open in the browser."""

    def __init__(self, driver, *words, cwd=None, **more):
        command = [sys.executable, "-c", "from fbwrap.app.cli import main; main()", "ui", *map(str, words)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **more}
        self.process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if not found:
            self.process.kill()
            raise AssertionError(line + self.process.stderr.read())
        self.address = found[0]
        self.driver = driver
        self.open()

    def open(self):
        """As a new visitor."""
        self.driver.get_log("performance")
        self.driver.get("about:blank")
        self.driver.get(self.address)

    def close(self):
        import signal

        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)

    def one(self, selector, timeout=30.0):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = self.driver.find_elements("css selector", selector)
            if found:
                return found[0]
            time.sleep(0.1)
        raise AssertionError(f"the page has no {selector}")

    def text(self, selector):
        return self.one(selector).text

    def pixels(self, name):
        """A picture as the page shows it."""
        address = self.one(f"#{name} img").get_attribute("src")
        with urllib.request.urlopen(address) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB")).astype(int)

    def first_of(self, name):
        """The left picture of a slider of two."""
        shown = self.driver.find_elements("css selector", f"#{name} img")
        with urllib.request.urlopen(shown[0].get_attribute("src")) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB")).astype(int)

    def wait(self, condition, why, timeout=30.0):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except Exception as error:
                why = f"{why} ({error})"[:500]
            time.sleep(0.15)
        raise AssertionError(why)

    def set(self, name, value):
        """Type a number into a slider's or a number's field."""
        from selenium.webdriver.common.keys import Keys

        field = self.one(f"#{name} input[type=number]")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(str(value), Keys.TAB)

    def slide(self, name, value):
        """Move a slider as a hand does: the handle is dragged."""
        from selenium.webdriver import ActionChains

        bar = self.one(f"#{name} input[type=range]")
        low, high = float(bar.get_attribute("min")), float(bar.get_attribute("max"))
        now, width = float(bar.get_attribute("value")), bar.size["width"] - 16
        place = lambda v: round((v - low) / (high - low) * width - width / 2)
        ActionChains(self.driver).move_to_element_with_offset(bar, place(now), 0).click_and_hold().move_by_offset(
            place(value) - place(now), 0
        ).release().perform()

    def upload(self, name, path):
        self.one(f"#{name} input[type=file]").send_keys(str(path))

    def tab(self, name):
        """Show one of the tabs."""
        for button in self.driver.find_elements("css selector", "#tabs button[role=tab]"):
            if button.text == name:
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
                button.click()
                return
        raise AssertionError(f"there is no tab {name}")

    def elsewhere(self):
        """Requests to any other host."""
        asked = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith((self.address, "data:", "blob:", "about:"))]


@pytest.fixture(scope="module")
def served(driver):
    """One server for all tests: what a visitor sets is the visitor's own."""
    served = Page(driver, FOLDER / "head", *NETWORKS)
    yield served
    served.close()


@pytest.fixture
def page(served):
    served.open()
    served.one("#feedback img")
    return served


def test_sliders_move_pictures(page):
    base, corrected = page.pixels("base"), page.pixels("feedback")
    assert (base != corrected).any()
    page.slide("strength", 0.0)
    page.wait(lambda: (page.pixels("feedback") == base).all(), "at strength 0 the base is left")
    page.set("strength", 1)
    page.wait(lambda: (page.pixels("feedback") == corrected).all(), "and back")
    page.set("link0", 0)
    page.wait(lambda: (page.pixels("feedback") != corrected).any(), "one link alone")
    assert (page.pixels("base") == base).all(), "this latent is kept"
    page.set("seed", 5)
    page.wait(lambda: (page.pixels("base") != base).any(), "another latent")
    base = page.pixels("base")
    page.one("#keep input").click()
    page.slide("strength", 0.5)
    page.wait(lambda: (page.pixels("base") != base).any(), "a latent that is not kept is drawn anew")
    base = page.pixels("base")
    page.one("#again").click()
    page.wait(lambda: (page.pixels("base") != base).any(), "new latents")
    page.set("steps", 3)
    page.wait(lambda: "t = 3" in page.text("#answered"), "a response for each step")
    assert page.elsewhere() == []
    if "FBWRAP_SCREENSHOT" in os.environ:
        page.one("#keep input").click()
        for name, value in (("link0", 1), ("strength", 1), ("steps", 2), ("seed", 0)):
            page.set(name, value)
        time.sleep(3)
        page.driver.save_screenshot(os.environ["FBWRAP_SCREENSHOT"])


def test_off_and_as_saved(page):
    base, corrected = page.pixels("base"), page.pixels("feedback")
    page.one("#off").click()
    page.wait(lambda: (page.pixels("feedback") == base).all(), "off: the base")
    page.set("link0", 0)
    page.set("steps", 3)
    page.one("#reset").click()
    page.wait(lambda: (page.pixels("feedback") == corrected).all(), "strengths and steps as the head has them")
    page.one("#half").click()
    strength = lambda: float(page.one("#strength input[type=number]").get_attribute("value"))
    page.wait(lambda: strength() == 0.5, "half of the head's strength")


def test_a_link_is_switched_off_and_on(page):
    corrected = page.pixels("feedback")
    page.one("#on0 input").click()
    page.wait(lambda: (page.pixels("feedback") != corrected).any(), "one link is off")
    assert page.one("#link0 input[type=number]").get_attribute("value") == "1", "its strength is kept"
    page.tab("Export")
    page.one("#ascode").click()
    page.wait(lambda: "loop[0].strength = 0 " in page.text("#code"), "the code says so")
    page.one("#on1 input").click()
    page.wait(lambda: (page.pixels("feedback") == page.pixels("base")).all(), "all links are off")
    page.one("#reset").click()
    page.wait(lambda: (page.pixels("feedback") == corrected).all(), "as saved: both are on")


def test_a_setting_is_held_and_compared_with(page):
    left = lambda: page.first_of("compare")
    page.set("strength", 2)
    page.wait(lambda: (page.pixels("feedback") != page.pixels("base")).any(), "strength 2")
    strong, base = page.pixels("feedback"), page.pixels("base")
    page.wait(lambda: (left() == base).all(), "left of the line: without feedback")
    page.one("#hold").click()
    page.wait(lambda: (left() == strong).all(), "left of the line: A")
    assert "A, as it was held (strength 2, 1 step(s))" in page.text("#caption")
    page.set("strength", 0)
    page.wait(lambda: (page.pixels("feedback") == base).all(), "the present setting")
    assert (left() == strong).all()
    page.set("seed", 5)
    page.wait(lambda: (page.pixels("base") != base).any(), "other latents")
    page.wait(lambda: (left() != strong).any(), "A is of the same latents as the rest")
    page.one("#hold").click()
    page.wait(lambda: (left() == page.pixels("base")).all(), "A was let go")
    assert "without feedback" in page.text("#caption")


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_pictures_come_first_and_nothing_overlaps_or_is_empty(page, width, height):
    """At the width of a desktop and of a phone."""
    page.driver.set_window_size(width, height)
    # a window cannot be made narrower than some hundred pixels: the page's own width is set
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        time.sleep(1.5)
        box = lambda name: page.driver.execute_script(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [b.left, b.top + window.scrollY, b.right, b.bottom + window.scrollY]", name
        )  # fmt: skip
        compare, single, controls, tabs = map(box, ("#compare", "#single", "#controls", "#tabs"))
        strength = box("#strength")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width + 1
        assert compare[1] < height / 3, "the picture is on the first screen"
        assert max(compare[3], strength[3]) <= height, "the whole comparison and the strength are on the first screen"
        if width > 1000:
            assert max(compare[2], single[2]) <= controls[0] + 1, "side by side"
            assert compare[3] <= single[1] + 1
            assert controls[1] < height / 3
        else:
            assert compare[3] <= controls[1] + 1, "controls below the comparison"
            assert controls[3] <= single[1] + 1, "single pictures below the controls"
        assert max(single[3], controls[3]) <= tabs[1] + 1
        page.wait(lambda: page.driver.find_elements("css selector", "#responses img"), "D's response is there")
        for name in ("base", "feedback", "difference"):
            assert page.driver.find_elements("css selector", f"#{name} img"), f"{name} is empty"
        if "FBWRAP_SCREENSHOT" in os.environ:
            page.driver.save_screenshot(os.environ["FBWRAP_SCREENSHOT"].replace(".png", f"-{width}.png"))
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.set_window_size(1400, 1700)


def test_a_reference_and_a_mask(page, tmp_path):
    from selenium.webdriver import ActionChains

    corrected, base = page.pixels("feedback"), page.pixels("base")
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype("uint8")
    Image.fromarray(noise).save(tmp_path / "reference.png")
    page.tab("Reference")
    page.upload("reference", tmp_path / "reference.png")
    page.wait(lambda: (page.pixels("feedback") != corrected).any(), "D looks at the reference")
    page.one("#reference button[aria-label='Remove Image']").click()
    page.wait(lambda: (page.pixels("feedback") == corrected).all(), "D looks at the sample again")
    page.set("samples", 1)
    page.wait(lambda: page.pixels("base").shape != base.shape, "one sample")
    base, corrected = page.pixels("base"), page.pixels("feedback")
    page.tab("Mask")
    page.one("#fetch").click()
    canvas = page.one("#mask canvas")
    time.sleep(2)
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    left = -70  # the picture stands in the middle, some 290 pixels wide
    paint = ActionChains(page.driver).move_to_element_with_offset(canvas, left, -40).click_and_hold()
    for _ in range(8):
        paint = paint.move_by_offset(0, 10)
    paint.release().perform()

    def painted():
        now = page.pixels("feedback")
        changed = (now != base).any(axis=2)
        half = base.shape[1] // 2
        return changed.any() and (now != corrected).any() and changed[:, :half].sum() > changed[:, half:].sum()

    page.wait(painted, "corrections act on the left, where it was painted")


def test_gallery_code_and_head(page, tmp_path):
    page.set("strength", 0.5)
    page.tab("Gallery")
    page.one("#show").click()
    page.wait(lambda: page.pixels("gallery").shape[0] == 5 * page.pixels("base").shape[0], "five strengths")
    assert "α = 0.25" in page.text("#strengths")
    page.tab("Export")
    page.one("#ascode").click()
    page.wait(lambda: "loop.strength, loop.steps = 0.5, 1" in page.text("#code"), "the setting as code")
    page.one("#ashead").click()
    link = page.one("#file a[href]").get_attribute("href")
    with urllib.request.urlopen(link) as answer, zipfile.ZipFile(io.BytesIO(answer.read())) as archive:
        config = json.loads(archive.read("config.json"))
    assert config["strength"] == 0.5


def test_a_sampler_is_chosen(page):
    page.tab("Samplers")
    field = page.one("#sampler input")
    field.click()
    page.wait(lambda: page.one("#sampler [role=option][aria-label=topk]").click() is None, "the list of samplers")
    page.one("#draw").click()
    page.wait(lambda: page.pixels("sampled").shape == page.pixels("base").shape, "samples of the sampler")
    page.wait(lambda: "calls of G a sample" in page.text("#noted"), "what it cost")


def test_a_picture_is_uploaded_for_super_resolution(driver, tmp_path):
    import torch
    from test_studio import sr_loop

    loop = sr_loop()
    torch.save(loop.generator.state_dict(), tmp_path / "g.pth")
    loop.save_pretrained(tmp_path / "head", discriminator="none")
    torch.save(loop.discriminator.state_dict(), tmp_path / "d.pth")
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "G = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1), nn.PixelShuffle(2))\n"
        "D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 3, 1, 1))\n"
    )
    nets = [
        tmp_path / "head", "-g", f"{tmp_path / 'nets.py'}:G", "-d", f"{tmp_path / 'nets.py'}:D",
        "--weights", tmp_path / "g.pth", "--critic-weights", tmp_path / "d.pth", "--value-range", "0", "1",
    ]  # fmt: skip
    page = Page(driver, *nets)
    try:
        page.wait(lambda: "Upload a picture" in page.text("#status"), "it asks for a picture")
        shown = lambda name: [each.is_displayed() for each in page.driver.find_elements("css selector", f"#{name}")]
        assert not any(shown("compare") + shown("base") + shown("difference")), "nothing empty is shown"
        assert page.one("#picture").location["y"] < page.one("#controls").location["y"] + 200
        assert page.one("#picture").location["y"] < 300, "the upload is on the first screen"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype("uint8")).save(tmp_path / "x.png")
        page.upload("picture", tmp_path / "x.png")
        page.one("#feedback img")
        page.wait(lambda: any(shown("compare")), "now there is something to show")
        assert page.pixels("base").shape[1] / page.pixels("base").shape[0] == 60 / 40
        page.set("strength", 0)
        page.wait(lambda: (page.pixels("feedback") == page.pixels("base")).all(), "strength 0")
        (tmp_path / "bad.png").write_bytes(b"no picture")
        large = tmp_path / "large.png"
        Image.new("RGB", (1400, 1400)).save(large)
        page.one("#picture button[aria-label='Remove Image']").click()
        time.sleep(1)
        page.upload("picture", large)
        page.wait(lambda: "Make it smaller" in page.driver.page_source, "too large a picture is refused in a sentence")
    finally:
        page.close()
    assert page.process.returncode == 0, "Ctrl-C ends the page"


def test_a_port_that_is_in_use_is_said():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = [sys.executable, "-c", "from fbwrap.app.cli import main; main()", "ui", FOLDER / "head", *NETWORKS]
        done = subprocess.run(
            [*map(str, words), "--port", str(port)], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr
