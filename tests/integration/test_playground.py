"""The playground in a real browser, on a real server; skipped where no browser is installed."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

pytest.importorskip("playwright", reason="the browser is driven by playwright")

from playwright.sync_api import Page, expect

from support.browsers import browsing, installed, playground

DIGITS = load_digits().images


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    """The page, open on `digits`."""
    browser = installed()
    with playground(address) as url, browsing(browser) as opened:
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(url)
        expect(opened.locator("#facts")).to_contain_text("pictures 1x8x8")
        yield opened
        hosts = {urlsplit(each).netloc for each in asked if not each.startswith("data:")}
        assert hosts == {urlsplit(url).netloc}, "the page asks nobody else for anything"


@pytest.fixture
def digit(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a scan as a picture of another size and in colour."""

    def write(number: int) -> Path:
        levels = (DIGITS[number] * (255 / 16)).astype(np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(levels).convert("RGB").resize((120, 160)).save(path)
        return path

    return write


def source(page: Page, selector: str) -> str:
    """The picture that an element shows."""
    shown = page.locator(f"{selector} img").last
    return shown.get_attribute("src") or ""


def changed(page: Page, selector: str, before: str) -> str:
    """The picture that an element shows once it is another one."""
    expect(page.locator(f"{selector} img").last).not_to_have_attribute("src", before)
    return source(page, selector)


def settled(page: Page, selector: str) -> str:
    """The picture that an element shows once it starts from the reconstruction's latents."""
    shown = source(page, "#look")
    expect(page.locator(f"{selector} img").last).to_have_attribute("src", shown)
    return shown


def opened(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()


def drop(page: Page, selector: str, picture: Path) -> None:
    page.set_input_files(f"{selector} input[type=file]", picture)


def test_a_picture_and_its_reconstruction(page: Page, digit: Callable[[int], Path]) -> None:
    opened(page, "Reconstruction")
    drop(page, "#picture", digit(0))
    first = source(page, "#look")
    look = page.locator("#look")
    expect(look).to_contain_text("turned to grey, cut to its middle, resized from 120x160 to 8x8")
    expect(look).to_contain_text(re.compile(r"-ELBO\s*-?[\d.]+ nats"))
    expect(look.locator("svg circle")).to_have_count(10)
    expect(page.locator("#look-line")).to_contain_text(
        re.compile(r"encode [\d.]+ ms \(queue [\d.]+ · run [\d.]+ · network [\d.]+\)")
    )
    page.get_by_label("Remove Image").click()
    drop(page, "#picture", digit(1))
    second = changed(page, "#look", first)
    page.get_by_label("Swap light and dark").check()
    third = changed(page, "#look", second)
    page.get_by_label("Swap light and dark").uncheck()
    assert changed(page, "#look", third) == second


def test_a_slider_moves_the_picture(page: Page) -> None:
    opened(page, "Latent sliders")
    before = settled(page, "#decoded")
    slider = page.locator("input[type=range]:visible").first
    slider.focus()
    slider.press("End")
    after = changed(page, "#decoded", before)
    expect(page.locator("#decoded-line")).to_contain_text("decode")
    page.get_by_role("button", name="Back to the start").click()
    assert changed(page, "#decoded", after) == before


def test_samples_follow_the_seed(page: Page) -> None:
    opened(page, "Samples")
    expect(page.locator("#samples")).to_contain_text("16 draws from the standard prior, seed 0")
    first = source(page, "#samples")
    page.get_by_role("button", name="Another seed").click()
    changed(page, "#samples", first)
    expect(page.locator("#samples")).not_to_contain_text("seed 0,")
    page.get_by_label("Seed").fill("0")
    page.get_by_label("Seed").blur()
    expect(page.locator("#samples img")).to_have_attribute("src", first)
    page.get_by_label("fitted").check()
    changed(page, "#samples", first)
    expect(page.locator("#samples")).to_contain_text("from the fitted prior, seed 0")


def test_samples_follow_the_temperature(page: Page) -> None:
    opened(page, "Samples")
    page.get_by_label("standard").check()
    page.get_by_label("Seed").fill("0")
    page.get_by_label("Seed").blur()
    samples = page.locator("#samples")
    expect(samples).to_contain_text("standard prior, seed 0, temperature 1")
    warm = source(page, "#samples")
    slider = page.get_by_role("slider", name="Temperature")
    slider.focus()
    slider.press("Home")
    cold = changed(page, "#samples", warm)
    expect(samples).to_contain_text("standard prior, seed 0, temperature 0")
    slider.fill("1")
    assert changed(page, "#samples", cold) == warm
    expect(samples).to_contain_text("standard prior, seed 0, temperature 1")


def test_a_walk_between_two_pictures(page: Page, digit: Callable[[int], Path]) -> None:
    opened(page, "Interpolation")
    expect(page.locator("#walk")).to_contain_text("Drop in two pictures")
    drop(page, "#other", digit(2))
    straight = source(page, "#walk")
    expect(page.locator("#walk")).to_contain_text("8 points, lerp")
    page.get_by_label("slerp").check()
    changed(page, "#walk", straight)


def test_an_attribute_moves_the_picture(page: Page) -> None:
    opened(page, "Attributes")
    before = settled(page, "#edited")
    slider = page.locator("input[type=range]:visible").first
    slider.focus()
    slider.press("End")
    changed(page, "#edited", before)
    expect(page.locator("#edited-line")).to_contain_text("edit")


def test_what_is_no_picture_is_said_in_words(page: Page) -> None:
    opened(page, "Reconstruction")
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name="vectors").click()
    expect(page.locator("#facts")).to_contain_text("'vectors' takes rows of shape 6, which are no")
