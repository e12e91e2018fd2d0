"""A browser that opens sites from the disk, and sites for it."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparc.analyze.browse.page_files import page_files

from .synthetic import Plan, write_site

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

DRAWN = "document.documentElement?.dataset.drawn"

PLANS = {
    "shapes": Plan(),
    "many": Plan(latents=10_000, detailed=32),
    "one stream": Plan(streams=("dino",), latents=40, detailed=40),
    "two streams": Plan(streams=("dino", "text"), latents=40, detailed=40),
    "no labels": Plan(labels=False, latents=40, detailed=40),
    "no captions": Plan(captions=False, latents=40, detailed=40),
    "no pictures": Plan(pictures=False, latents=40, detailed=40),
    "bare": Plan(labels=False, captions=False, pictures=False, more=False, latents=40, detailed=40),
    "hostile": Plan(hostile=True, latents=30, detailed=30),
}


@dataclasses.dataclass(frozen=True)
class Site:
    """A site in a browser.

    Attributes:
        driver: Selenium's driver of the browser.
        folder: Where the site is.
        plan: What it has.
    """

    driver: Any
    folder: Path
    plan: Plan

    def go(self, address: str) -> None:
        """Show an address of the page, such as `#/latents?q=red`; wait until it is drawn."""
        before = self.run(f"return {DRAWN}")
        here = self.driver.current_url
        url = f"{self.folder.as_uri()}/index.html"
        self.driver.get(f"{url}{address}")
        if here.partition("#")[0] != url:
            before = None
        elif here == url + address:
            return
        self.drawn(before)

    def drawn(self, before: str | None) -> None:
        self.until(f"![undefined, {json.dumps(before)}].includes({DRAWN})")

    def act(self, script: str, *arguments: Any) -> None:
        """Do something that draws the page again, and wait for that."""
        before = self.run(f"return {DRAWN}")
        self.run(script, *arguments)
        self.drawn(before)

    def until(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 20, 0.02).until(
            lambda _: self.run(f"return Boolean({condition})"), condition
        )

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector
        )

    def count(self, selector: str) -> int:
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def click(self, selector: str, text: str = "") -> None:
        """Click with the mouse on what has this text."""
        found = [e for e in self.driver.find_elements("css selector", selector) if text in e.text]
        found[0].click()

    def keys(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    @property
    def address(self) -> str:
        return str(self.run("return location.hash"))

    def latents(self) -> list[int]:
        """The latents in sight of the list, in its order."""
        rows = self.run(
            "return [...document.querySelectorAll('.scroll .row')]"
            ".map((row) => [Number(row.ariaRowIndex), Number(row.dataset.latent)])"
        )
        return [latent for _, latent in sorted(rows)]

    def size(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.run("return document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver")
    from selenium.common.exceptions import WebDriverException

    if CHROMIUM is None or shutil.which("chromedriver") is None:
        pytest.skip("needs chromium and chromedriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        driver = selenium.Chrome(options, selenium.ChromeService(shutil.which("chromedriver")))
    except WebDriverException as error:  # a browser that a machine has and cannot run
        reason = " ".join(str(error.msg).split())
        pytest.skip(f"chromium does not start here: {reason:.200}")
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def open_site(driver, folders, tmp_path_factory):
    """Open a site of PLANS, or the one in a folder.

    After the test: no error was logged, and nothing was asked for outside the site.
    """
    opened: list[Path] = []

    def open_(which: str | Path, address: str = "#/") -> Site:
        if isinstance(which, str) and which not in folders:
            folders[which] = write_site(tmp_path_factory.mktemp("site"), PLANS[which])
            copy_page(folders[which])
        folder = folders[which] if isinstance(which, str) else which
        site = Site(driver, folder, PLANS[which] if isinstance(which, str) else Plan())
        opened.append(folder)
        site.size(1440)
        site.go(address)
        return site

    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    yield open_
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    allowed = (*(f"{folder.as_uri()}/" for folder in opened), "data:", "about:", "blob:")
    assert {url for url in urls if not url.startswith(allowed)} == set()
    assert not opened or any(url.endswith("data/index.js") for url in urls)


def copy_page(folder: Path) -> None:
    for name, content in page_files().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
