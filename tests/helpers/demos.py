"""What the tests of demos share: a task with a page, and somebody who uses pages in a browser."""

import numpy as np

import lightkeras as lk
from helpers.toys import Classifier

OWN_WARNING = "Method not implemented."  # Gradio's, as an upload ends
SPILLS = """
return [...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1);
}).map(one => one.outerHTML.slice(0, 100));
"""


class Shown(Classifier):
    """A user's own task with a page."""

    def demo(self):
        def classify(x: float) -> str:
            logits = self.network(np.full((1, 4), x, np.float32))
            return f"class {int(np.argmax(logits))}"

        one = lk.demo.Tool("Try", {"x": lk.demo.Slider("x", 0.0, -1.0, 1.0, 0.1)}, classify)
        return lk.demo.Page("Points", "Of two classes.", [one])


class Visitor:
    """Somebody who uses a page and looks whether it is well.

    Args:
        browser: The browser.
        url: The page's address.
    """

    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        browser.asked(), browser.complaints()

    def open(self, width, theme):
        self.browser.show(self.url, width, theme)
        self.browser.wait("return document.querySelector('.lk-tool input') !== null")

    def put(self, selector, text):
        (box,) = self.browser.driver.find_elements("css selector", selector)
        box.send_keys(text)

    def press(self):
        self.browser.run("document.querySelectorAll('.lk-output > *').forEach(one => one.classList.add('old'))")
        self.browser.driver.find_element("css selector", "button.primary").click()

    def text(self, selector):
        """The text of what appears there."""
        return self.browser.wait(f"const one = document.querySelector('{selector}'); return one && one.textContent")

    def look(self):
        """Nothing overflows, nothing serious is found, nothing was asked for elsewhere, nothing complained."""
        for width in (1280, 400):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            self.browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            assert self.browser.run("return document.documentElement.scrollWidth <= innerWidth")
            assert self.browser.run(SPILLS) == []
        assert self.browser.run("return [...document.images].every(one => one.naturalWidth > 0 && one.alt)")
        assert self.browser.findings(reload=False) == []
        assert [said for said in self.browser.complaints() if OWN_WARNING not in said] == []
        asked = self.browser.asked()
        assert all(url.startswith((self.url, f"blob:{self.url}")) for url in asked), asked
