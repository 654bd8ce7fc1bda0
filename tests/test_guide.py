"""The head, the tour over the real page, addresses of pages, and the page that explains."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, no_barrier, opened

from imder.model.config import PRESETS
from imder.pipeline import feature_error
from imder.report.method import FORMULAS, code_of, preset_table
from imder.sde import VESDE
from imder.ui.explain import formulas
from imder.ui.guide import STOPS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


# --- content ----------------------------------------------------------------------------------------------------------


def test_code_is_the_running_code_without_its_docstring() -> None:
    for one in FORMULAS:
        for function in one.code:
            shown = code_of(function)
            path, line = re.fullmatch(r"(imder/[\w/]+\.py), line (\d+)", shown.place).groups()
            assert path.endswith(inspect.unwrap(function).__module__.rsplit(".", 1)[1] + ".py")
            assert int(line) > 1
            assert '"""' not in shown.text
            compile(shown.text, shown.name, "exec")


def test_shown_code_computes_what_the_function_does() -> None:
    names = {"Tensor": torch.Tensor, "torch": torch}
    exec(code_of(feature_error).text, names)
    z, truth = torch.randn(3, 4, 5), torch.randn(4, 5)
    assert torch.equal(names["feature_error"](z, truth), feature_error(z, truth))
    exec(code_of(VESDE.perturb).text, names)
    t, x = torch.tensor([0.1, 0.5, 1.0]), torch.randn(3, 4, 5)
    assert torch.equal(names["perturb"](VESDE(), x, t, z), VESDE().perturb(x, t, z))


def test_presets_are_told_as_the_configuration_has_them() -> None:
    table = preset_table()
    assert table.head[1:4] == ("official", "paper", "corrected")
    found = {row[0][0].text: [cell[0].text for cell in row[1:4]] for row in table.body}
    changed = {name for preset in PRESETS.values() for name in preset}
    assert set(found) == changed
    assert found["condition_noise"] == ["shared", "independent", "none"]
    assert found["steps"] == ["100", "500", "10"]


def test_no_dollar_of_a_formula_is_lost() -> None:
    assert formulas().count("$$") == 2 * len(FORMULAS)


# --- the browser ------------------------------------------------------------------------------------------------------


def shown(page: Page) -> str:
    """The id of the page that is shown."""
    return page.locator("#pages [role=tab][aria-selected=true]").get_attribute("id")


def test_addresses_open_pages_and_follow_them(browser: Browser, server: Server) -> None:
    with opened(browser, server, "?view=how&seed=5") as page:
        expect(page.locator("#page-how-button")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#formulas .katex-display")).to_have_count(len(FORMULAS))
        page.get_by_role("tab", name="Training").click()
        page.wait_for_function("location.search.includes('view=training')")
        assert "seed=5" in page.url
        page.get_by_role("tab", name="Recover").click()
        page.wait_for_function("!location.search.includes('view')")
    with opened(browser, server, "?view=%3Cimg%3E") as page:
        assert shown(page) == "page-recover-button"


def test_arrows_move_between_pages(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.locator("#page-recover-button").focus()
        page.keyboard.press("End")
        expect(page.locator("#page-how-button")).to_be_focused()
        expect(page.locator("#page-how-button")).to_have_attribute("aria-selected", "true")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#page-recover-button")).to_be_focused()


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_tour_leads_through_the_real_page(browser: Browser, server: Server, viewport: dict[str, int]) -> None:
    with opened(browser, server, viewport=viewport, reduced_motion="reduce") as page:
        page.get_by_role("button", name="Take the tour").click()
        tour = page.locator("#tour")
        for i, stop in enumerate(STOPS):
            expect(tour).to_have_attribute("data-step", str(i))
            expect(tour).to_contain_text(stop.title)
            expect(tour).to_be_focused()
            expect(page.locator(stop.target)).to_have_class(re.compile("toured"))
            assert shown(page) == f"page-{stop.page}-button"
            page.keyboard.press("ArrowRight")
        expect(tour).to_be_hidden()
        expect(page.get_by_role("button", name="Take the tour")).to_be_focused()
        assert page.locator(".toured").count() == 0


def test_tour_goes_back_and_ends_with_escape(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.get_by_role("button", name="Take the tour").click()
        tour = page.locator("#tour")
        expect(tour.get_by_role("button", name="Back")).to_be_disabled()
        tour.get_by_role("button", name="Next").click()
        expect(tour).to_contain_text(STOPS[1].title)
        page.keyboard.press("ArrowLeft")
        expect(tour).to_contain_text(STOPS[0].title)
        page.keyboard.press("Escape")
        expect(tour).to_be_hidden()


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, server, "?view=how", color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        expect(page.locator("#formulas .katex-display")).to_have_count(len(FORMULAS))
        page.get_by_role("button", name="Take the tour").click()
        no_barrier(page)
