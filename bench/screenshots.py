"""Pictures of the dashboard for the documentation, from a server that runs (`hstu demo --stay`).

    python bench/screenshots.py --url 'http://127.0.0.1:PORT/?user=547' --to docs/images

Needs chromium and its driver (Debian: apt-get install chromium-driver) and selenium (`pip install '.[dev]'`).
"""

import argparse
import shutil
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver

VIEWS = {"dashboard": (1280, False), "dashboard-dark": (1280, True), "dashboard-390": (390, False)}
TIMEOUT_S = 60.0
SETTLE_S = 7.0  # looks of two seconds each, until rates are known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="Address of the dashboard, with ?user=ID for the question box.")
    parser.add_argument("--to", type=Path, required=True, help="Folder of the pictures.")
    parser.add_argument("--only", choices=VIEWS, help="One picture alone.")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name in [arguments.only] if arguments.only else VIEWS:
        path = arguments.to / f"{name}.png"
        take(arguments.url, path, *VIEWS[name])
        print(f"{path}  {path.stat().st_size / 1024:.0f} KiB")


def take(url: str, path: Path, width: int, dark: bool) -> None:
    """Write a picture of the whole page."""
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-gpu"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        _resize(driver, width, 900)
        driver.get(url)
        deadline = time.monotonic() + TIMEOUT_S
        while not driver.execute_script("return document.querySelector('#answer .why') !== null"):
            if time.monotonic() > deadline:
                raise SystemExit(f"{url} has no answer within {TIMEOUT_S:g} s; is there ?user=ID, and a snapshot?")
            time.sleep(0.2)
        time.sleep(SETTLE_S)
        _resize(driver, width, driver.execute_script("return document.documentElement.scrollHeight"))
        time.sleep(1)
        driver.save_screenshot(str(path))
        Image.open(path).convert("RGB").quantize(255, kmeans=3).save(path, optimize=True)  # a third of the bytes
    finally:
        driver.quit()


def _resize(driver: webdriver.Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


if __name__ == "__main__":
    main()
