"""A real headless Chromium for tests: opens pages from disk without any network, and reads its console."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no host exists, whatever a page requests
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
_BINARIES = ("chromium", "chromium-browser", "google-chrome")


def binary(*names: str) -> str:
    """The first of these programs that is installed.

    Raises:
        FileNotFoundError: none is; ci/test installs them.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"none of {', '.join(names)} is installed; ci/test installs chromium and chromium-driver")


@contextlib.contextmanager
def browser(*, downloads: Path | None = None, size: tuple[int, int] = (1300, 1000)) -> Iterator[webdriver.Chrome]:
    """A Selenium driver of a fresh Chromium."""
    with tempfile.TemporaryDirectory(prefix="torc-chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary(*_BINARIES)
        for option in (*_OPTIONS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if downloads is not None:
            options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        driver = webdriver.Chrome(options=options, service=Service(binary("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def prefer(driver: webdriver.Chrome, scheme: str) -> None:
    """Make the browser report that its user prefers ``light`` or ``dark``."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )


def console(driver: webdriver.Chrome) -> list[str]:
    """The page's errors since the last call, from its console."""
    entries = driver.get_log("browser")  # type: ignore[no-untyped-call]  # untyped in Selenium
    return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
