"""The page in a browser: real clicks, drags, keys and taps; every drawn colour and number is the record's."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, nn
from minigrad.bptt.record import Reading, Record, kind_of
from minigrad.nn.cells import RNNState
from minigrad.views.clipped import MEANINGS
from minigrad.views.facts import Facts
from minigrad.views.page import page
from minigrad.views.palette import BINS, SPECIAL, look, number, shown
from minigrad.views.scene import build
from tests.views.hostile import Hostile
from tests.views.test_layout import RECORDS, own
from tests.views.test_page import HOSTILE, LOOKS, history

api: Any = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

STEPS, UPDATES = 30, 4
HISTORIES = {
    "RNN": history("RNN", steps=STEPS, updates=UPDATES, growth=0.5, last=True),
    "LSTM": history("LSTM", steps=STEPS, updates=UPDATES, growth=2.0, last=True),
    "GRU": history("GRU", steps=STEPS, updates=UPDATES, keep="steps", kernel="fused", growth=0.6, last=True),
}
LABELS = [chr(97 + t % 26) for t in range(STEPS)]
BOXES = "#graph .box:not([style*=none])"


@cache
def sample() -> str:
    return page(HISTORIES, labels=LABELS, title="A sample")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("MINIGRAD_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:  # its own browser, where the machine has none
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page in a browser, and what it said and asked for."""

    def __init__(self, browser: Any, path: Path, text: str, **options: Any) -> None:
        path.write_text(text, "utf8")
        options.setdefault("viewport", {"width": 1400, "height": 900})
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(10_000)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())
        self.url = path.as_uri()

    def close(self) -> None:
        self.context.close()
        assert self.said == []
        assert self.asked == [self.url]

    def do(self, script: str, argument: Any = None) -> Any:
        return self.tab.evaluate(script, argument)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def choose(self, group: str, name: str) -> None:
        self.tab.locator(f"#{group} label", has_text=re.compile(f"^{re.escape(name)}$")).click()

    @property
    def hint(self) -> str:
        return str(self.tab.locator("#hint").inner_text())

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.do("() => ({...minigrad.state})")
        return found

    def fills(self, selector: str) -> list[str]:
        """The colours that elements have on the screen."""
        found: list[str] = self.do(
            "s => [...document.querySelectorAll(s)].map(e => getComputedStyle(e).fill)", selector
        )
        return found

    def words(self, selector: str) -> list[list[str]]:
        found: list[list[str]] = self.do(
            "s => [...document.querySelectorAll(s)].map(e => [...e.querySelectorAll('text')]"
            ".map(t => t.textContent).filter(Boolean))", selector
        )  # fmt: skip
        return found


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Opened]:
    found = Opened(chromium, tmp_path / "page.html", sample())
    yield found
    found.close()


def rgb(colour: str) -> str:
    return f"rgb({int(colour[1:3], 16)}, {int(colour[3:5], 16)}, {int(colour[5:7], 16)})"


def fills_of(readings: list[Reading]) -> list[str]:
    return [rgb(look(r).fill) for r in readings]


def readings(cell: str, update: int, state: str = "h") -> list[Reading]:
    return HISTORIES[cell][update][1].sequence().readings(state)


def chosen_tiles(opened: Opened, row: int, rows: int) -> list[str]:
    tiles = opened.fills("#map .tile")
    assert len(tiles) == rows * STEPS
    return tiles[row * STEPS : (row + 1) * STEPS]


# The slider


def test_the_sample_changes_its_colours_from_update_to_update() -> None:
    for cell in HISTORIES:
        assert len({tuple(fills_of(readings(cell, update))) for update in range(UPDATES)}) == UPDATES


def test_the_page_opens_at_the_first_update_of_the_first_cell(opened: Opened) -> None:
    assert chosen_tiles(opened, 0, 1) == fills_of(readings("RNN", 0))
    assert opened.tab.locator("h1").inner_text() == "A sample"
    assert "RNN at update 0" in opened.tab.locator("#story").inner_text()
    assert opened.state["step"] == STEPS - 1


def test_keys_on_the_slider_change_every_drawn_colour(opened: Opened) -> None:
    opened.tab.locator("#update").focus()
    for update in (1, 2, 3):
        opened.press("ArrowRight")
        assert chosen_tiles(opened, 0, 1) == fills_of(readings("RNN", update))
        assert opened.tab.locator("#moment").inner_text().startswith(f"{update * 10} of 30")
    opened.press("Home")
    assert chosen_tiles(opened, 0, 1) == fills_of(readings("RNN", 0))


def test_dragging_the_slider_goes_through_the_updates(opened: Opened) -> None:
    box = opened.tab.locator("#update").bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.tab.mouse.move(box["x"] + 8, middle)
    opened.tab.mouse.down()
    opened.tab.mouse.move(box["x"] + box["width"] / 2 + 60, middle, steps=8)
    assert opened.state["update"] == 2
    opened.tab.mouse.move(box["x"] + box["width"] - 2, middle, steps=4)
    opened.tab.mouse.up()
    assert opened.state["update"] == 3
    assert chosen_tiles(opened, 0, 1) == fills_of(readings("RNN", 3))


def test_play_runs_to_the_last_update_and_stops(opened: Opened) -> None:
    opened.tab.locator("#play").click()
    for _ in range(100):
        if opened.state["update"] == UPDATES - 1 and not opened.state["playing"]:
            break
        opened.tab.wait_for_timeout(100)
    assert opened.tab.locator("#play").get_attribute("aria-label") == "Play the training"


@pytest.mark.parametrize(("cell", "level"), [("RNN", "gate"), ("LSTM", "cell"), ("LSTM", "gate"), ("GRU", "gate")])
def test_boxes_have_the_colour_and_the_number_of_the_record(opened: Opened, cell: str, level: str) -> None:
    opened.choose("cells", cell)
    opened.choose("levels", level)
    for update in (0, UPDATES - 1):
        opened.do("u => minigrad.choose({ update: u })", update)
        s = HISTORIES[cell][update][1].sequence()
        last = STEPS - 1
        norms = {f"{k.upper() if k == 'c' else k}": s.readings(k)[last] for k in s.states}
        if level == "gate":
            norms |= {k: s.over_batch(v)[last] for k, v in s.gate_norms.items()}
        assert s.input_norms is not None
        norms["x"] = s.over_batch(s.input_norms)[last]
        group = f'#graph g[data-t="{last}"] > .box:not(.loss)'
        texts, fills = opened.words(group), opened.fills(f"{group} .shape")
        found = {words[0].rstrip("₀₁₂₃₄₅₆₇₈₉"): (words[-1], fill) for words, fill in zip(texts, fills, strict=True)}
        for name, r in norms.items():
            assert found[name] == (f"g {shown(r)}", rgb(look(r).fill)), name


# Hover, focus, tap


def test_hovering_a_tile_shows_its_number(opened: Opened) -> None:
    t = 11
    opened.tab.locator("#map .tile").nth(t).hover()
    r = readings("RNN", 0)[t]
    assert opened.hint.splitlines()[0] == "t = 12, reads “l”"
    assert f"‖∂L/∂h₁₂‖ = {shown(r)} " in opened.hint
    opened.tab.mouse.move(700, 4)
    assert opened.tab.locator("#hint").is_hidden()


def test_hovering_a_box_a_pill_and_an_arrow_shows_their_numbers(opened: Opened) -> None:
    opened.choose("cells", "LSTM")
    opened.choose("levels", "gate")
    record, last = HISTORIES["LSTM"][0][1], STEPS - 1
    assert record.graph is not None
    opened.tab.locator("#graph .box", has_text="f₃₀").hover()
    s = record.sequence()
    assert "forget gate f₃₀" in opened.hint
    assert f"= {shown(s.over_batch(s.gate_norms['f'])[last])} " in opened.hint
    assert f"mean value {number(float(s.gates['f'][last].mean()))}" in opened.hint
    opened.tab.locator(f'#graph g[data-t="{last}"] > .pill', has_text="W_hh").hover()
    weight = next(p for name, p in record.parameters.items() if "weight_hh" in name)
    term = next(x for x in weight.terms if x.time == last)
    assert opened.hint.endswith(number(float(np.linalg.norm(term.array()))))
    (h, o) = (next(b.id for b in record.graph.boxes if (b.time, b.symbol) == (last, k)) for k in ("h", "o"))
    flow = next(f for f in record.graph.flows if (f.origin, f.to) == (o, h))
    wire = opened.tab.locator('#graph .wire[aria-label*="from h₃₀ back to o₃₀"] .line')
    place = wire.bounding_box()
    opened.tab.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    assert opened.hint.splitlines() == ["from h₃₀ back to o₃₀", f"gradient along this way: {shown(flow.reading)}"]


def test_a_click_chooses_the_step_everywhere(opened: Opened) -> None:
    opened.tab.locator("#map .tile").nth(4).click()
    assert opened.state["step"] == 4
    assert "Chosen step t = 5, reads “e”" in opened.tab.locator("#chosen").inner_text()
    assert opened.tab.locator("#map .tile[aria-current=step]").get_attribute("data-t") == "4"
    frame = opened.tab.locator("#graph .frame.chosen")
    box, room = frame.bounding_box(), opened.tab.locator("#graph").bounding_box()
    assert room["x"] <= box["x"] + box["width"] / 2 <= room["x"] + room["width"]
    opened.tab.locator(BOXES, has_text="h₆").click()
    assert opened.state["step"] == 5


def test_a_tap_shows_the_number_and_chooses_the_step(chromium: Any, tmp_path: Path) -> None:
    phone = Opened(chromium, tmp_path / "page.html", sample(), viewport={"width": 390, "height": 844}, has_touch=True,
                   is_mobile=True)  # fmt: skip
    phone.tab.locator(BOXES, has_text="h₃₀").tap()
    assert f"= {shown(readings('RNN', 0)[STEPS - 1])} " in phone.hint
    phone.tab.locator("#map .tile").nth(20).tap()
    assert phone.state["step"] == 20
    assert "‖∂L/∂h₂₁‖" in phone.hint
    phone.tab.locator("#cells label", has_text="LSTM").tap()
    assert "LSTM at update 0" in phone.tab.locator("#story").inner_text()
    assert phone.do("() => document.documentElement.scrollWidth <= innerWidth")
    phone.close()


# Keys


def stops(opened: Opened) -> list[str]:
    """What the tab key reaches, in order, until it leaves the page."""
    found: list[str] = []
    opened.do("() => document.activeElement.blur()")
    for _ in range(60):
        opened.press("Tab")
        name: str = opened.do(
            "() => { const e = document.activeElement; return e === document.body ? '' : e.id || e.name ||"
            " e.closest('#map, #graph, #heats, #terms, #norms, #cells, #levels').id }"
        )
        if not name or (found and name == found[0]):
            break
        found.append(name)
    return found


def test_the_tab_key_reaches_everything_in_the_order_of_the_page(opened: Opened) -> None:
    assert [s for s in stops(opened) if s != "graph"] == [
        "theme", "cell", "level", "play", "update", "map", "row", "heats", "heats", "heats", "threshold", "exact",
        "terms", "norms",
    ]  # fmt: skip
    assert "graph" in stops(opened)


def test_what_has_the_focus_is_marked(opened: Opened) -> None:
    for selector in ("#theme", "#play", "#update", "#row", "#threshold", "#exact", "#heats canvas"):
        opened.tab.locator(selector).first.focus()
        opened.press("Shift")  # the browser shows the focus to those who use keys
        width = opened.do("() => getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px", selector
    for picture in ("map", "graph", "terms", "norms"):
        opened.tab.locator(f'#{picture} [tabindex="0"]').focus()
        opened.press("ArrowLeft", "ArrowRight")
        assert opened.do("() => getComputedStyle(document.activeElement).outlineWidth") == "3px", picture


def test_arrow_keys_reach_every_box_and_arrow_of_every_step(opened: Opened) -> None:
    opened.choose("cells", "LSTM")
    opened.choose("levels", "gate")
    opened.tab.locator('#graph [tabindex="0"]').focus()
    heard = []
    for _ in range(60):
        label = opened.do("() => document.activeElement.getAttribute('aria-label')")
        if heard and label == heard[-1]:
            break
        heard.append(label)
        opened.press("ArrowDown")
    count = opened.tab.locator(f'#graph g[data-t="{STEPS - 1}"] > [data-hint]').count()
    assert len(heard) == len(set(heard)) == count
    assert any("forget gate f₃₀" in label for label in heard)
    assert any("from h₃₀ back to o₃₀" in label for label in heard)
    assert any("W_hh" in label for label in heard)
    for _ in range(len(heard)):
        opened.press("ArrowUp")
    for t in range(STEPS - 1, 0, -1):
        opened.press("ArrowLeft")
        label = opened.do("() => document.activeElement.getAttribute('aria-label')")
        assert f"cell state C{str(t).translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))}" in label
        assert opened.tab.locator("#hint").is_visible()
    opened.press("ArrowLeft")
    assert "first state C₀" in opened.hint
    opened.press("End")
    assert "C₃₀" in opened.hint
    opened.press("ArrowLeft", "Enter")
    assert opened.state["step"] == STEPS - 2
    opened.press("Escape")
    assert opened.tab.locator("#hint").is_hidden()


def test_arrow_keys_move_on_the_map(opened: Opened) -> None:
    opened.choose("levels", "strip")
    opened.tab.locator('#map [tabindex="0"]').focus()
    opened.press("Home", "ArrowRight", "ArrowDown")
    assert "t = 2" in opened.hint
    s = HISTORIES["RNN"][0][1].sequence()
    assert f"‖∂L/∂a₂‖ = {shown(s.over_batch(s.gate_norms['a'])[1])} " in opened.hint
    opened.press("Space")
    assert opened.state["step"] == 1


# Switches


def test_the_switch_of_cells_shows_the_other_cell(opened: Opened) -> None:
    opened.choose("cells", "LSTM")
    assert chosen_tiles(opened, 1, 2) == fills_of(readings("LSTM", 0))
    assert chosen_tiles(opened, 0, 2) == fills_of(readings("LSTM", 0, "c"))
    opened.press("ArrowRight")  # the radio buttons have the focus
    assert "GRU at update 0" in opened.tab.locator("#story").inner_text()
    assert chosen_tiles(opened, 0, 1) == fills_of(readings("GRU", 0))


def test_the_switch_of_levels_shows_strip_cell_and_gate(opened: Opened) -> None:
    opened.choose("levels", "strip")
    assert opened.tab.locator("#graph").is_hidden()
    assert opened.tab.locator("#map .tile").count() == 3 * STEPS  # h, a, x
    opened.choose("levels", "gate")
    assert opened.tab.locator("#graph .box", has_text="a₃₀").count() == 1
    assert opened.tab.locator("#note").is_hidden()
    opened.choose("cells", "GRU")
    assert "keep=\"ops\"" in opened.tab.locator("#note").inner_text()
    assert opened.tab.locator("#graph .box", has_text="z₃₀").count() == 1
    opened.choose("levels", "cell")
    assert opened.tab.locator("#graph .box", has_text="z₃₀").count() == 0


# Ops

_OPS = {"RNN": "ah", "LSTM": "figCoh"}


def scene_of(cell: str, update: int) -> Any:
    record = HISTORIES[cell][update][1]
    return build(record, record.sequence(), "op", LABELS, None)


def title_of(cell: str, symbol: str) -> str:
    """The box of the last step that hands on a gate's or a state's value."""
    return {"a": "a₃₀ = +", "h": "h₃₀ = ×" if cell == "LSTM" else "h₃₀ = tanh", "C": "C₃₀ = +", "g": "g₃₀ = tanh"}.get(
        symbol, f"{symbol}₃₀ = σ"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("cell", ["RNN", "LSTM"])
def test_every_op_has_the_colour_and_the_numbers_of_the_record(
    chromium: Any, tmp_path: Path, cell: str, theme: str
) -> None:
    found = Opened(chromium, tmp_path / "page.html", sample(), color_scheme=theme)
    found.choose("cells", cell)
    found.choose("levels", "op")
    last = STEPS - 1
    for update in (0, UPDATES - 1):
        found.do("u => minigrad.choose({ update: u })", update)
        step = scene_of(cell, update).steps[last]
        group = f'#graph g[data-t="{last}"] > '
        shown_boxes = sorted(zip(found.words(f"{group}.box"), found.fills(f"{group}.box .shape"), strict=True))
        gradients = {key: [] if key == "loss" else [f"g {shown(card.reading)}"] for key, card in step.cards.items()}
        assert shown_boxes == sorted(
            ([card.title, card.line, *gradients[key]], rgb(look(card.reading).fill)) for key, card in step.cards.items()
        )
        labels = found.do(
            "s => [...document.querySelectorAll(s)].map(e => e.getAttribute('aria-label'))", f"{group}.wire"
        )  # fmt: skip
        parts = [text.rpartition("this way: ")[2] for text in labels]
        assert sorted(parts) == sorted(shown(r) for r in (*step.flows.values(), *step.carried.values()))
        pills = found.fills(f"{group}.pill .shape")
        assert sorted(pills) == sorted(rgb(look(p.reading).fill) for c in step.cards.values() for p in c.pills)
    found.close()


def test_hovering_an_op_and_its_arrow_shows_their_numbers(opened: Opened) -> None:
    opened.choose("cells", "LSTM")
    opened.choose("levels", "op")
    step = scene_of("LSTM", 0).steps[STEPS - 1]
    card = step.cards["f sigmoid 1"]
    opened.tab.locator("#graph .box", has_text="f₃₀ = σ").hover()
    assert opened.hint.splitlines()[:3] == [
        "forget gate, sigmoid: f₃₀ = σ", f"t = 30, reads “{LABELS[-1]}”", f"mean value {card.line}"
    ]
    assert f"‖∂L/∂f₃₀‖ = {shown(card.reading)} " in opened.hint
    x, y = opened.do(
        "() => { const e = document.querySelector('#graph .wire[aria-label*=\"back to f₃₀ = σ\"] .reach');"
        " const p = e.getPointAtLength(e.getTotalLength() / 2).matrixTransform(e.getScreenCTM()); return [p.x, p.y] }"
    )
    opened.tab.mouse.move(x, y)
    part = shown(step.flows["f sigmoid 1", "c multiply 1"])
    assert opened.hint.splitlines() == ["from × back to f₃₀ = σ", f"gradient along this way: {part}"]


@pytest.mark.parametrize("cell", ["RNN", "LSTM"])
def test_a_highlighted_gate_stands_out_with_its_equation_and_its_numbers(opened: Opened, cell: str) -> None:
    opened.choose("cells", cell)
    opened.choose("levels", "op")
    assert opened.tab.locator(".faded").count() == 0
    rows = opened.tab.locator("#equations li")
    for symbol in _OPS[cell]:
        opened.choose("highlights", symbol)
        assert opened.state["highlight"] == symbol
        own = opened.tab.locator(BOXES, has_text=re.compile(re.escape(title_of(cell, symbol))))
        faded = opened.tab.locator(f'#graph g[data-t="{STEPS - 1}"] > .box.faded')
        assert 0 < faded.count() < opened.tab.locator(f'#graph g[data-t="{STEPS - 1}"] > .box').count()
        # the pre-activation of the RNN is an op like the others
        assert "faded" not in str(own.first.get_attribute("class"))
        assert float(opened.do("() => getComputedStyle(document.querySelector('#graph .box.faded')).opacity")) < 0.5
        strong = [k for k in range(rows.count()) if "faded" not in str(rows.nth(k).get_attribute("class"))]
        assert 1 <= len(strong) <= 2
        words = [rows.nth(k).inner_text() for k in strong]
        assert any(text.splitlines()[1].startswith(symbol) for text in words)
    opened.choose("highlights", "none")
    assert opened.tab.locator(".faded").count() == 0


def test_the_equation_lives_at_the_chosen_step_and_update(opened: Opened) -> None:
    opened.choose("cells", "LSTM")
    opened.choose("levels", "op")
    opened.choose("highlights", "f")
    row = opened.tab.locator("#equations li").first
    for update, t in ((0, STEPS - 1), (2, STEPS - 1), (2, 4), (3, 0)):
        opened.do("chosen => minigrad.choose(chosen)", {"update": update, "step": t})
        card = scene_of("LSTM", update).steps[t].cards["f sigmoid 1"]
        name = f"f{str(t + 1).translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))}"
        assert row.locator(".equation").inner_text() == "ft = σ(Wf xt + Uf ht−1 + bf)"
        numbers = row.locator(".numbers").inner_text()
        facts = Facts(HISTORIES["LSTM"][update][1], HISTORIES["LSTM"][update][1].sequence(), t)
        mean, saturated, _ = facts.numbers("f", None)
        assert numbers.startswith(f"{mean} · {saturated} · ‖∂L/∂{name}‖")
        assert (mean, saturated.split()[0]) == (f"mean {card.line}", "saturated")
        assert shown(card.reading).replace("0", "exactly 0", card.reading.kind == "zero") in numbers
        cell_state = opened.tab.locator("#equations li").nth(3).locator(".numbers").inner_text()
        way = facts.comes("c", "c")
        straight = f" · straight back to C{t}: {shown(way)}"
        assert cell_state.endswith(straight) if t else "straight" not in cell_state
        assert opened.tab.locator("#anatomy_title").inner_text() == f"the forget gate: how much of C{t} stays"


def test_keys_choose_the_op_level_and_a_highlight(opened: Opened) -> None:
    opened.choose("cells", "LSTM")
    opened.tab.locator("#levels input").nth(1).focus()
    opened.press("ArrowRight", "ArrowRight")
    assert opened.state["level"] == "op"
    opened.tab.locator("#highlights input").first.focus()
    opened.press("ArrowRight")
    assert opened.state["highlight"] == "f"
    opened.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert opened.state["highlight"] == "C"
    assert opened.tab.locator("#anatomy_title").inner_text() == "the cell state: what is kept plus what is new"
    opened.tab.locator('#graph [tabindex="0"]').focus()
    heard, keys = [], []
    for _ in range(60):
        key, label = opened.do("e => [document.activeElement.dataset.key, document.activeElement.ariaLabel]")
        if keys and key == keys[-1]:
            break
        keys.append(key)
        heard.append(label)
        opened.press("ArrowDown")
    assert len(keys) == len(set(keys)) == opened.tab.locator(f'#graph g[data-t="{STEPS - 1}"] > [data-hint]').count()
    assert any("forget gate, sigmoid: f₃₀ = σ" in label for label in heard)
    assert any("cell state, multiply: ×" in label for label in heard)
    opened.press("ArrowLeft", "Enter")
    assert opened.state["step"] == STEPS - 2


def test_without_ops_the_level_is_off_and_says_why(opened: Opened) -> None:
    assert opened.tab.locator("#why").is_hidden()
    opened.choose("levels", "op")
    opened.choose("highlights", "a")
    opened.choose("cells", "GRU")  # from a kernel
    assert (opened.state["level"], opened.state["highlight"]) == ("gate", "")
    assert opened.tab.locator("#levels input").last.is_disabled()
    assert "this ran in one op, a kernel" in opened.tab.locator("#why").inner_text()
    assert opened.tab.locator("#highlights").is_hidden()
    opened.choose("cells", "LSTM")
    assert opened.tab.locator("#levels input").last.is_enabled()
    assert opened.tab.locator("#why").is_hidden()
    opened.choose("levels", "op")
    assert opened.tab.locator("#anatomy").is_visible()


def test_an_update_without_ops_says_so(chromium: Any, tmp_path: Path) -> None:
    full, bare = HISTORIES["LSTM"], history("LSTM", steps=STEPS, updates=2, keep="steps", growth=2.0, last=True)
    found = Opened(chromium, tmp_path / "page.html", page({"LSTM": [bare[0], full[1]]}))
    found.choose("levels", "op")
    assert "No ops at this update" in found.tab.locator("#note").inner_text()
    assert found.tab.locator(BOXES, has_text="f₃₀").count() == 0
    assert "no ops at this step and update" in found.tab.locator("#equations").inner_text()
    found.tab.locator("#update").press("ArrowRight")
    assert found.tab.locator("#note").is_hidden()
    assert found.tab.locator(BOXES, has_text="f₃₀ = σ").count() == 1
    found.close()


def test_a_finger_chooses_the_op_level_and_a_highlight(chromium: Any, tmp_path: Path) -> None:
    phone = Opened(chromium, tmp_path / "page.html", sample(), viewport={"width": 390, "height": 844}, has_touch=True,
                   is_mobile=True, color_scheme="dark")  # fmt: skip
    phone.tab.locator("#cells label", has_text="LSTM").tap()
    phone.tab.locator("#levels label", has_text="op").tap()
    phone.tab.locator("#highlights label", has_text="o").last.tap()
    assert phone.state["highlight"] == "o"
    phone.tab.locator(BOXES, has_text="o₃₀ = σ").tap()
    assert "output gate, sigmoid: o₃₀ = σ" in phone.hint
    graph, equations = (phone.tab.locator(name).bounding_box() for name in ("#graph", "#anatomy"))
    assert graph["y"] + graph["height"] <= equations["y"]
    phone.close()


# Folded ops


@pytest.fixture(params=["LSTM", "reverse", "RNN of 300"])
def folded(
    request: pytest.FixtureRequest, chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Opened, Record]]:
    """The last layer of a page whose op level has room for the steps at both ends alone."""
    monkeypatch.setattr("minigrad.views.page_ops._MOST", 1)
    records = {
        "LSTM": lambda: HISTORIES["LSTM"],
        "reverse": lambda: history("GRU", steps=STEPS, updates=2, both=True),
        "RNN of 300": lambda: history("RNN", steps=300, updates=1),
    }[request.param]()
    found = Opened(chromium, tmp_path / "page.html", page({"cell": records}))
    found.do("k => minigrad.choose({ layer: k, level: 'op' })", len(records[0][1].sequences) - 1)
    yield found, records[0][1]
    found.close()


def test_arrow_keys_go_through_the_folded_steps(folded: tuple[Opened, Record]) -> None:
    opened, record = folded
    s = list(record.sequences.values())[-1]
    lane = s.readings("c" if "c" in s.states else "h")  # the upper one
    opened.tab.locator('#graph [tabindex="0"]').focus()
    opened.press("End" if s.reverse else "Home")
    assert "first state" in opened.hint
    seen, covered = [], []
    for _ in range(80):
        opened.press("ArrowLeft" if s.reverse else "ArrowRight")
        if seen and opened.hint == seen[-1]:
            break
        seen.append(opened.hint)
        numbers = re.search(r"t = (\d+)(?:…(\d+): the largest)?", opened.hint)
        assert numbers is not None
        span = range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1)
        covered += list(span)[:: -1 if s.reverse else 1]
        if "folded" in opened.hint:
            largest = max((lane[t - 1] for t in span), key=lambda r: r.norm)
            assert shown(largest) in opened.hint
    assert covered == list(range(1, s.steps + 1))[:: -1 if s.reverse else 1]
    chunk = math.ceil((s.steps - 8) / 48)
    assert sum("folded" in text for text in seen) == math.ceil((s.steps - 8) / chunk)


def test_a_folded_step_is_chosen_by_a_click_and_says_that_it_is_folded(folded: tuple[Opened, Record]) -> None:
    opened, record = folded
    opened.do("() => minigrad.choose({ step: 9 })")
    chosen = opened.tab.locator("#graph .tile.chosen")
    assert chosen.count() >= 1
    assert "folded at this step" in opened.tab.locator("#equations").inner_text()
    opened.tab.locator("#graph .fold").last.click()
    assert 3 < opened.state["step"] < record.sequence().steps - 4
    opened.do("() => minigrad.choose({ step: 1, highlight: 'h' })")
    assert "‖∂L/∂h₂‖ =" in opened.tab.locator("#equations").inner_text()
    assert opened.tab.locator("#highlights input:checked + span").inner_text() == "h"


def test_only_the_steps_in_sight_are_drawn_and_scrolling_brings_the_others(opened: Opened) -> None:
    assert opened.tab.locator("#graph .frame").count() < STEPS
    opened.do("() => { document.querySelector('#graph').scrollLeft = 0; }")
    opened.tab.wait_for_selector("#graph .initial")
    assert opened.tab.locator(BOXES, has_text="h₁").first.is_visible()


def test_dark_colours_follow_the_system_and_the_button(chromium: Any, tmp_path: Path) -> None:
    dark = Opened(chromium, tmp_path / "page.html", sample(), color_scheme="dark")
    paper = "() => getComputedStyle(document.body).backgroundColor"
    assert dark.do(paper) == "rgb(27, 31, 36)"
    assert chosen_tiles(dark, 0, 1) == fills_of(readings("RNN", 0))  # the palette stays
    dark.tab.locator("#theme").click()
    assert dark.do(paper) == "rgb(255, 255, 255)"
    dark.tab.locator("#theme").click()
    assert dark.do(paper) == "rgb(27, 31, 36)"
    dark.close()


# Heat maps


def heat(opened: Opened, cell: int) -> list[list[str]]:
    """The colours of a heat map, row by row, near the corner of each tile."""
    found: list[list[str]] = opened.do(
        "([c, U, T]) => { const e = document.querySelectorAll('#heats canvas')[c], w = e.width, h = e.height;"
        " const all = e.getContext('2d').getImageData(0, 0, w, h).data;"
        " const at = (u, t) => 4 * (Math.floor((u + 0.1) * h / U) * w + Math.floor((t + 0.2) * w / T));"
        " const colour = k => `rgb(${all[k]}, ${all[k + 1]}, ${all[k + 2]})`;"
        " return [...Array(U).keys()].map(u => [...Array(T).keys()].map(t => colour(at(u, t)))) }",
        [cell, UPDATES, STEPS],
    )
    return found


def test_every_tile_of_the_heat_maps_has_its_colour(opened: Opened) -> None:
    for k, cell in enumerate(HISTORIES):
        assert heat(opened, k) == [fills_of(readings(cell, update)) for update in range(UPDATES)]


def test_the_heat_map_shows_another_quantity(opened: Opened) -> None:
    opened.tab.locator("#row").select_option("C")
    assert heat(opened, 1)[2] == fills_of(readings("LSTM", 2, "c"))
    assert "no C" in opened.tab.locator("#heats figure").first.inner_text()


def test_a_click_into_a_heat_map_moves_slider_step_and_cell(opened: Opened) -> None:
    canvas = opened.tab.locator("#heats canvas").nth(1)
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 9.5 / STEPS, "y": box["height"] * 2.5 / UPDATES})
    state = opened.state
    assert (state["cell"], state["step"], state["update"]) == (1, 9, 2)
    assert opened.tab.locator("#update").input_value() == "2"
    assert opened.tab.locator("#graph .frame.chosen + text").text_content().startswith("t = 10")
    assert f"‖∂L/∂h₁₀‖ = {shown(readings('LSTM', 2)[9])} " in opened.hint
    assert chosen_tiles(opened, 1, 2) == fills_of(readings("LSTM", 2))


def test_dragging_and_keys_move_through_a_heat_map(opened: Opened) -> None:
    canvas = opened.tab.locator("#heats canvas").nth(2)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    opened.tab.mouse.move(box["x"] + 5, box["y"] + 5)
    opened.tab.mouse.down()
    opened.tab.mouse.move(box["x"] + box["width"] * 20.5 / STEPS, box["y"] + box["height"] * 3.5 / UPDATES, steps=6)
    opened.tab.mouse.up()
    assert (opened.state["cell"], opened.state["step"], opened.state["update"]) == (2, 20, 3)
    canvas.focus()
    opened.press("ArrowLeft", "ArrowLeft", "ArrowUp")
    assert (opened.state["step"], opened.state["update"]) == (18, 2)
    assert f"‖∂L/∂h₁₉‖ = {shown(readings('GRU', 2)[18])} " in opened.hint
    opened.press("Home", "ArrowUp", "ArrowUp", "ArrowUp")
    assert (opened.state["step"], opened.state["update"]) == (0, 0)


# Clipping


def clipped(cell: str, update: int, threshold: float) -> tuple[float, float, dict[int, float]]:
    """‖g‖, the coefficient, and the terms of W_hh."""
    record = HISTORIES[cell][update][1]
    total = math.hypot(*(float(np.linalg.norm(p.gradient)) for p in record.parameters.values()))
    weight = next(p for name, p in record.parameters.items() if "weight_hh" in name)
    sizes = {x.time: float(np.linalg.norm(x.array())) for x in weight.terms if x.time is not None}
    return total, min(1.0, threshold / total), sizes


@pytest.mark.parametrize("share", [0.01, 0.8, 1.0, 1.2, 1e6])
def test_another_threshold_is_computed_again(opened: Opened, share: float) -> None:
    opened.choose("cells", "LSTM")
    c = clipped("LSTM", 0, math.inf)[0] * share
    opened.tab.locator("#exact").fill(repr(c))
    for update in (0, 3):
        opened.do("u => minigrad.choose({ update: u })", update)
        total, coefficient, sizes = clipped("LSTM", update, c)
        bars = opened.do(
            "() => [...document.querySelectorAll('#terms .bar')].map(e => [e.getAttribute('aria-label'),"
            " getComputedStyle(e.querySelector('.after')).fill])"
        )  # fmt: skip
        assert len(bars) == STEPS + 2
        for t, (label, fill) in enumerate(bars[:STEPS]):
            size = sizes.get(t, 0.0)
            words = ("exactly 0", "exactly 0") if not size else (number(size), number(size * coefficient))
            assert label.endswith(f"before: {words[0]}; after: {words[1]}"), t
            kind = kind_of(size * coefficient, np.float64)
            assert fill == rgb(look(Reading(size * coefficient, kind)).fill)
        assert f"before: {number(total)}; after: {number(total * coefficient)}" in bars[-1][0]
        verdict, meaning = (opened.tab.locator(place).inner_text() for place in ("#verdict", "#meaning"))
        often = sum(clipped("LSTM", u, c)[0] > c for u in range(UPDATES))
        assert f"fires at {often} of {UPDATES} updates" in verdict
        if total > c:
            assert f"clipping fires. ‖g‖ = {number(total)} > C = {number(c)}" in verdict
            assert f"C/‖g‖ = {number(coefficient)}." in verdict
            used = [t for t in sorted(sizes) if sizes[t] > 0]
            ratio = sizes[used[0]] / sizes[used[-1]]
            means = next(words for bound, words in MEANINGS if ratio < bound)
            said = f"Term at t={{end}} : term at t={{start}} = {number(ratio)} before and after: {means}"
            assert meaning == said.format(end=used[0] + 1, start=used[-1] + 1)
        else:
            assert f"clipping does not fire. ‖g‖ = {number(total)} ≤ C = {number(c)}" in verdict
            assert meaning == ""


def test_the_threshold_slider_can_be_dragged_and_moved_by_keys(opened: Opened) -> None:
    slider = opened.tab.locator("#threshold")
    assert opened.tab.locator("#exact").input_value() == "0.1"  # what the records were clipped at
    slider.scroll_into_view_if_needed()
    slider.focus()
    opened.press("ArrowRight")
    assert opened.tab.locator("#exact").input_value() == "0.11"
    box = slider.bounding_box()
    opened.tab.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    opened.tab.mouse.down()
    opened.tab.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=10)
    opened.tab.mouse.up()
    c = float(opened.tab.locator("#exact").input_value())
    assert c > 1
    total, _, _ = clipped("RNN", 0, c)
    assert total <= c
    assert "does not fire" in opened.tab.locator("#verdict").inner_text()
    assert f"C = {number(c)}" in str(slider.get_attribute("aria-valuetext"))


@pytest.mark.parametrize("typed", ["0", "-2", ""])
def test_what_is_no_threshold_is_marked_and_put_back(opened: Opened, typed: str) -> None:
    field, verdict = opened.tab.locator("#exact"), opened.tab.locator("#verdict").inner_text()
    field.fill(typed)
    assert field.get_attribute("aria-invalid") == "true"
    assert opened.state["threshold"] == 0.1
    field.press("Tab")
    assert (field.input_value(), field.get_attribute("aria-invalid")) == ("0.1", "false")
    assert opened.tab.locator("#verdict").inner_text() == verdict


def test_a_dot_of_the_norms_moves_the_slider(opened: Opened) -> None:
    dots = opened.tab.locator("#norms .bar")
    assert dots.count() == UPDATES
    dots.nth(2).click()
    assert opened.state["update"] == 2
    total, coefficient, _ = clipped("RNN", 2, 0.1)
    assert f"‖g‖ = {number(total)}" in opened.hint
    assert f"clipped: times {number(coefficient)}" in opened.hint
    opened.press("ArrowRight")
    assert f"update {30}" in opened.hint


# What the script computes itself


def test_numbers_and_looks_of_the_script_are_those_of_the_palette(opened: Opened) -> None:
    rng = np.random.default_rng(4)
    values = [*10.0 ** rng.uniform(-320, 300, 2000), *10.0 ** rng.uniform(-5, 6, 4000), *range(200), 0.5, 0.25, 2.5]
    values += [0.125, 0.375, 1.25, 12.5, 13.5, 0.15, 100.5, 101.5, 9999.5, 9998.5, 1e22, 0.00095, 2.0**-10, 2.0**-11]
    values += [near for bound, _ in BINS[:-1] for near in (bound, math.nextafter(bound, 0), math.nextafter(bound, 9e9))]
    values = [float(v) for v in values]
    assert opened.do("values => values.map(minigrad.number)", values) == [number(v) for v in values]
    assert opened.do("values => values.map(x => minigrad.number(-x))", values) == [number(-v) for v in values]
    assert opened.do("() => [NaN, Infinity, -Infinity].map(minigrad.number)") == ["NaN", "inf", "-inf"]
    for dtype in (np.float32, np.float64):
        tiny = float(np.finfo(dtype).tiny)
        found = opened.do("([values, tiny]) => values.map(x => minigrad.lookOf(x, tiny))", [values, tiny])
        assert [LOOKS[k] for k in found] == [look(Reading(v, kind_of(v, dtype))) for v in values]
    assert LOOKS[opened.do("() => minigrad.lookOf(NaN, 1e-38)")] is SPECIAL["not finite"]


# Odd records


def test_markup_is_shown_as_text_and_does_nothing(chromium: Any, tmp_path: Path) -> None:
    text = page({HOSTILE: HISTORIES["LSTM"]}, labels=[HOSTILE] * STEPS, title=HOSTILE)
    found = Opened(chromium, tmp_path / "page.html", text)
    assert "<script>alert(1)</script>" in found.tab.locator("h1").inner_text()
    assert "<b>" in found.tab.locator("#cells").inner_text()
    found.tab.locator("#map .tile").first.hover()
    assert "reads “</scrip…”" in found.hint
    assert found.do("() => document.querySelectorAll('script').length") == 2
    found.close()


def test_names_of_ones_own_cell_are_shown_as_they_are(chromium: Any, tmp_path: Path) -> None:
    labels = ["</b>", "\u2028", "\"'", "`${1}"]
    text = page({"<i>a</i>": [(0, own(Hostile))], "&lt;": [(0, own(Hostile))]}, labels=labels)
    found = Opened(chromium, tmp_path / "page.html", text)
    assert found.tab.locator("#cells label span").all_inner_texts() == ["<i>a</i>", "&lt;"]
    for level in ("strip", "cell", "gate", "op"):
        found.choose("levels", level)
        assert found.state["level"] == level
        assert not found.do("() => document.querySelectorAll('main :is(script, i, svg b, [onclick])').length")
        words = found.do("() => [...document.querySelectorAll('main *')].flatMap(e => [e.ariaLabel, e.textContent])")
        assert not re.search("[\\x00-\\x08\u2028\u202e\ufffd]", "".join(filter(None, words)))
    found.choose("levels", "gate")
    found.tab.locator("#graph .box.gate", has_text="G₄").hover()
    assert found.hint.splitlines()[:2] == ['gate "1" <b> & \\N \\G₄', "t = 4, reads “`${1}”"]
    found.tab.locator("#graph .pill", has_text="<b>").last.hover()
    assert 'gradient of a."<b>&\\N' in found.hint
    found.tab.locator("#map .tile").nth(1).hover()
    assert found.hint.startswith("t = 2, reads “U+2028”")
    found.close()


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("GRU", {"layers": 2, "both": True, "batch": 2, "lengths": (5, 3)}),
        ("LSTM", {"batch": 3, "lengths": (2, 4, 1), "kernel": "fused", "keep": "steps"}),
        ("LSTM", {"steps": 1, "updates": 1}),
        ("RNN", {"growth": 1e30, "single": True, "kernel": "fused", "keep": "steps"}),
        ("LSTM", {"growth": 0.0}),
        ("RNN", {"steps": 700, "kernel": "fused", "keep": "steps", "updates": 2}),
    ],
)  # fmt: skip
def test_odd_records_are_drawn_at_every_level(chromium: Any, tmp_path: Path, cell: str, options: Any) -> None:
    with np.errstate(all="ignore"):
        records = history(cell, **options)
    found = Opened(chromium, tmp_path / "page.html", page({cell: records}))
    for layer, s in enumerate(records[0][1].sequences.values()):
        for level in ("strip", "cell", "gate", "op"):
            for update in range(len(records)):
                found.do("chosen => minigrad.choose(chosen)", {"layer": layer, "level": level, "update": update})
                for selector in ("#map .tile", "#terms .bar", "#norms .bar"):
                    assert found.tab.locator(selector).count() >= 1
                assert not found.do(  # in a coordinate
                    "() => /NaN|undefined|Infinity/.test(document.querySelector('main').innerHTML"
                    ".replace(/>[^<]*</g, '><').replace(/(aria-label|class)=\"[^\"]*\"/g, ''))"
                )
                if level not in ("strip", "op") or found.state["level"] == "op":
                    steps = min(s.steps, 3)
                    assert found.tab.locator("#graph .frame").count() >= steps
    found.close()


def test_first_states_that_have_a_gradient_show_that_of_the_update(chromium: Any, tmp_path: Path) -> None:
    rng, records = np.random.default_rng(0), []
    cell = nn.RNNCell(3, 4, rng=rng)
    for update in range(2):
        cell.zero_grad()
        first = mg.Tensor(rng.standard_normal((1, 4)).astype(np.float32), requires_grad=True)
        y, _ = nn.unroll(cell, rng.standard_normal((3, 1, 3)).astype(np.float32), RNNState(first))
        records.append((update, bptt.backward(nn.mse_loss(y[-1], np.ones((1, 4), np.float32)))))
    found = Opened(chromium, tmp_path / "page.html", page({"RNN": records}))
    seen = []
    for update, record in records:
        found.do("u => minigrad.choose({ update: u })", update)
        size = float(np.linalg.norm(record.sequence().initial_gradients["h"]))
        seen.append(number(size))
        ((_, mean, gradient),) = found.words("#graph .initial")
        assert gradient == f"g {number(size)}"
        assert mean == number(float(record.sequence().initial["h"].mean()))
    assert seen[0] != seen[1]
    found.close()


def test_ones_own_cells_are_drawn_at_every_level(chromium: Any, tmp_path: Path) -> None:
    cells = {name: [(0, record)] for name, record in RECORDS.items()}
    found = Opened(chromium, tmp_path / "page.html", page(cells))
    for k, record in enumerate(RECORDS.values()):
        for level in ("strip", "cell", "gate", "op"):
            found.do("chosen => minigrad.choose(chosen)", {"cell": k, "layer": 0, "level": level})
            if level == "gate" and record.graph is not None:
                assert found.tab.locator("#graph .wire").count() >= 1
            assert found.tab.locator("#map .tile").count() >= 4
    found.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_words_of_equations_that_stand_back_can_be_read(chromium: Any, tmp_path: Path, theme: str) -> None:
    def luminance(colour: str) -> float:  # WCAG 2.2
        parts = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    found = Opened(chromium, tmp_path / "page.html", sample(), color_scheme=theme)
    found.do("() => minigrad.choose({ cell: 1, level: 'op' })")
    found.choose("highlights", "o")
    pairs = found.do(
        "() => [...document.querySelectorAll('#equations li :is(b, div)')].map(e => { const ground ="
        " getComputedStyle(e.closest('li')).backgroundColor, paper = getComputedStyle(document.body).backgroundColor;"
        " return [getComputedStyle(e).color, ground.endsWith(' 0)') ? paper : ground, getComputedStyle(e.closest('li'))"
        ".opacity] })"
    )
    assert len(pairs) == 18
    for ink, ground, opacity in pairs:
        light, dark = sorted((luminance(ink), luminance(ground)))[::-1]
        assert ((light + 0.05) / (dark + 0.05) >= 4.5, opacity) == (True, "1")
    found.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_twelve_cells_and_eight_layers_have_room_for_their_switches(
    chromium: Any, tmp_path: Path, width: int
) -> None:
    records = history("GRU", layers=4, both=True, steps=3, updates=1)
    names = [f"{cell}, H={size}, {start}" for cell in ("RNN", "LSTM", "GRU") for size in (16, 256)
             for start in ("orthogonal", "xavier_uniform")]  # fmt: skip
    found = Opened(chromium, tmp_path / "page.html", page(dict.fromkeys(names, records)),
                   viewport={"width": width, "height": 740}, is_mobile=width < 700)  # fmt: skip
    assert found.do("() => document.documentElement.scrollWidth <= innerWidth")
    assert found.tab.locator("#controls").bounding_box()["height"] < 740 / 4
    found.choose("cells", names[-1])
    found.choose("layers", "l3_reverse")
    assert (found.state["cell"], found.state["layer"]) == (11, 7)
    found.tab.locator("#cells input:checked").press("ArrowLeft")
    assert found.state["cell"] == 10
    found.close()


def test_nothing_is_wider_than_a_phone(chromium: Any, tmp_path: Path) -> None:
    phone = Opened(chromium, tmp_path / "page.html", sample(), viewport={"width": 360, "height": 740}, is_mobile=True)
    for level in ("strip", "cell", "gate", "op"):
        phone.choose("levels", level)
        assert phone.state["level"] == level
        assert phone.do("() => document.documentElement.scrollWidth <= innerWidth")
    phone.close()
