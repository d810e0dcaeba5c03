"""Headless Chromium for tests of pages; Debian has it: `apt-get install chromium chromium-driver`."""

import json
import shutil
from pathlib import Path

import axe_core_python
import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

AXE = Path(axe_core_python.__file__).parent / "axe.min.js"
SERIOUS = ("serious", "critical")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """A tab that knows what the page asked for and complained of."""

    def __init__(self):
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        driver = shutil.which("chromedriver")
        if program is None or driver is None:
            pytest.skip("needs Chromium and chromedriver: Debian's packages chromium and chromium-driver")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def show(self, url: str, width: int = 1280, theme: str = "light") -> None:
        """Opens a page at a width in pixels, "light" or "dark"."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    def run(self, script: str, *arguments):
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, seconds: float = 60.0):
        """Waits until a script returns something true."""
        return WebDriverWait(self.driver, seconds, 0.2).until(lambda driver: driver.execute_script(script))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """Addresses that were asked for since the last call, pictures in the page left out."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def findings(self, reload: bool = True) -> list[str]:
        """What axe-core finds serious, everything unfolded; without `reload` in the page as it is."""
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        if reload:  # else a strict policy keeps axe-core out
            self.driver.refresh()
        self.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script("const done = arguments[0]; axe.run().then(r => done(r.violations));")
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in SERIOUS]

    def close(self) -> None:
        self.driver.quit()
