"""The page's structure: what stands where, that nothing can break out of it, that it is the same every time."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from report_cases import (
    COMMAND,
    of_class,
    parsed,
    reported,
    rows_of,
    runs_dir,
    sweep_dir,
    text,
    timeline_dir,
    validation_dir,
)
from sweep_rows import LINK, failed, grid, guess, oracle, resident, row, table

from specmoe.analysis.answer import answer_of
from specmoe.analysis.report import Report, read_inputs, write_report
from specmoe.errors import InputError

HOSTILE = "<script>alert('x')</script>\"&amp;"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of one of each."""
    place = tmp_path_factory.mktemp("everything")
    runs_dir(place / "ran", "lookahead", "static")
    timeline_dir(place / "swept", "a timeline.json")
    return reported(
        place / "page.html", sweep_dir(place / "swept"), place / "ran", validation_dir(place / "checked", missed=("x",))
    )


@pytest.fixture(scope="module")
def page(everything: str) -> Element:
    return parsed(everything)


def facts(page: Element) -> dict[str, list[str]]:
    """Of the first screen: values and remarks by label."""
    (listed,) = of_class(page, "facts")
    return {text(item[0]): [text(part) for part in item[1:]] for item in listed}


# The first screen


def test_answer_first(page: Element) -> None:
    first = page.find(".//header")
    assert first is not None
    assert [text(heading) for heading in first.iter("h1")] == ["lookahead is fastest: 364 tokens/s"]
    assert facts(page) == {
        "A step takes": ["2.75 ms", "one in a hundred 5.50 ms or more"],
        "Ahead of the next by": ["8.3 %", "of the time that on-demand-lru takes"],
        "Beside perfect knowledge": [
            "1.38 \N{MULTIPLICATION SIGN} the oracle",
            "which takes 2.00 ms in the same slots",
        ],
        "Buy next": [
            "a faster link",
            "host_to_device.pinned.bandwidth=20 GB/s, from 10 GB/s: 14 % less time a step",
        ],
    }


def test_where_the_answer_holds(page: Element) -> None:
    (lead,) = of_class(page, "lead")
    assert text(lead) == (
        "model in fp16 on box, host_to_device.pinned.bandwidth=10 GB/s; decode of batch 1 with 256 slots "
        "(4.00 GiB of experts); routing: a/decode/test (trained-here). Other values of what was varied are below."
    )


def test_bars(page: Element) -> None:
    (bars,) = of_class(page, "bars")
    assert [(cells[0], cells[-1]) for cells in rows_of(bars)] == [
        ("floor: all experts resident", "1.00 ms"),
        ("oracle: perfect knowledge", "2.00 ms"),
        ("lookahead", "2.75 ms"),
        ("on-demand-lru", "3.00 ms"),
    ]
    widths = [span.get("style") for span in bars.iter("span")]
    assert widths == ["width:33.3%", "width:66.7%", "width:91.7%", "width:100.0%"]
    assert [text(found) for found in of_class(bars, "best")] == ["lookahead2.75 ms"]


def first_screen(tmp_path: Path, *rows: dict[str, Any]) -> Element:
    return parsed(reported(tmp_path / "page.html", sweep_dir(tmp_path / "swept", table(*rows))))


def test_slower_policies_are_counted(tmp_path: Path) -> None:
    found = first_screen(tmp_path, *(row(f"policy-{n}", 3 + n) for n in range(7)))
    (bars,) = of_class(found, "bars")
    assert [cells[0] for cells in rows_of(bars)][2:] == [f"policy-{n}" for n in range(5)]
    assert text(next(bars.iter("caption"))) == "Mean time of a step; 2 slower policies are left out."


def test_a_faster_link_is_told_by_its_speed(tmp_path: Path) -> None:
    found = first_screen(tmp_path, row(ms=4, **{LINK: 1e10}), row(ms=3, **{LINK: 2e10}))
    remark = "host_to_device.pinned.bandwidth=20 GB/s, from 10 GB/s: 25 % less time a step"
    assert facts(found)["Buy next"] == ["a faster link", remark]


def test_of_one_setting_predictions_are_what_could_help(tmp_path: Path) -> None:
    told = facts(first_screen(tmp_path, row(ms=4)))
    assert "Buy next" not in told
    assert "Ahead of the next by" not in told
    assert told["What could help"][0] == "better predictions"
    assert "50 % less time" in told["What could help"][1]


def test_what_costs_time_is_not_advised(tmp_path: Path) -> None:
    found = first_screen(tmp_path, row(ms=2, slots=128), row(ms=3, slots=64))
    assert facts(found).keys() == {"A step takes", "Beside perfect knowledge"}


def test_yardsticks_alone_win_nothing(tmp_path: Path) -> None:
    found = first_screen(tmp_path, oracle(), resident())
    assert [text(heading) for heading in found.iter("h1")] == [
        "The results hold only yardsticks, which no runtime could build"
    ]


def test_each_machine_has_its_headline(tmp_path: Path) -> None:
    found = first_screen(tmp_path, row(), row(profile="other", ms=1))
    assert [text(heading) for heading in found.iter("h1")] == ["box: on-demand-lru is fastest: 250 tokens/s"]
    other, lead = of_class(found, "lead")
    assert text(other) == "other: on-demand-lru is fastest: 1000 tokens/s"
    assert "on box; decode" in text(lead)
    assert text(lead).endswith("The first of 2 settings; the others are below.")


def test_level_policies_have_no_lead(tmp_path: Path) -> None:
    known = {"expected_error": 0.1, "validated": False, "error_basis": "not validated, as it is a guess"}
    found = first_screen(tmp_path, row(ms=4.0, **known), row("static", 4.1, **known))
    assert [text(heading) for heading in found.iter("h1")] == ["on-demand-lru and static are level: 250 tokens/s"]
    shown = facts(found)
    assert shown["Level with"][0] == "static"
    assert shown["Expected error"] == ["±10 % or worse", "not validated, as it is a guess"]
    assert "Ahead of the next by" not in shown
    assert "±10 % or worse: not validated, as it is a guess" in text(section(found, "evidence"))


def test_nothing_to_offload_is_the_headline(tmp_path: Path) -> None:
    held: dict[str, Any] = {"slots": 768, "fits": True, "bytes_loaded": 0}
    found = first_screen(tmp_path, row("gpu-only", 1.0, **held), row(ms=1.5, **held))
    assert [text(heading) for heading in found.iter("h1")] == ["Fits: nothing to offload"]
    assert text(of_class(found, "lead")[0]) == "gpu-only is fastest: 1000 tokens/s."


def test_crossovers_are_on_the_first_screen(tmp_path: Path) -> None:
    ends = ((1e10, 3.0, 4.0), (2e10, 2.5, 2.0))
    rows = [one for rate, a, b in ends for one in (row(ms=a, **{LINK: rate}), row("static", b, **{LINK: rate}))]
    assert "on-demand-lru is fastest below 15.0 GB/s, static above." in [
        text(each) for each in of_class(first_screen(tmp_path, *rows), "lead")
    ]


def test_validation_alone(tmp_path: Path) -> None:
    found = parsed(reported(tmp_path / "page.html", validation_dir(tmp_path / "checked")))
    assert [text(heading) for heading in found.iter("h1")] == ["Simulated mean steps are within 3.0 % of measured ones"]


def test_timeline_alone(tmp_path: Path) -> None:
    found = parsed(reported(tmp_path / "page.html", timeline_dir(tmp_path / "demo")))
    assert [text(heading) for heading in found.iter("h1")] == ["Timelines"]


# What follows


def test_parts_and_their_list(page: Element) -> None:
    links = {link.get("href", "")[1:]: text(link) for nav in page.iter("nav") for link in nav.iter("a")}
    sections = {section.get("id"): text(next(section.iter("h2"))) for section in page.iter("section")}
    assert links == sections
    assert list(links.values()) == [
        "Results: swept",
        "Results: ran",
        "Assumptions and evidence",
        "How to reproduce",
        "Timelines",
        "Validation",
    ]


def section(page: Element, key: str) -> Element:
    (found,) = [each for each in page.iter("section") if each.get("id") == key]
    return found


def test_every_sentence_of_the_answer_is_told(page: Element) -> None:
    told = [text(item) for item in section(page, "results-1").iter("li")]
    assert told == list(answer_of(grid()).sentences)


def test_figures_have_names_and_readings(page: Element) -> None:
    figures = list(section(page, "results-1").iter("figure"))
    assert len(figures) >= 5
    for figure in figures:
        (drawing,) = figure.iter("svg")
        assert drawing.get("role") == "img"
        assert text(drawing[0]).endswith(".")  # the title of the drawing ends with the reading
        assert text(next(figure.iter("figcaption"))) in text(drawing[0])


def test_ids_are_unique_and_references_lead_somewhere(everything: str, page: Element) -> None:
    ids = Counter(each.get("id") for each in page.iter() if each.get("id"))
    assert [name for name, times in ids.items() if times > 1] == []
    wanted = set(re.findall(r"url\(#([^)]+)\)", everything)) | {
        each.get("href", "")[1:] for each in page.iter() if each.get("href", "").startswith("#")
    }
    wanted |= {each.get("for", "") for each in page.iter() if each.get("for")}
    assert wanted - set(ids) == set()
    assert len(wanted) > 20


def test_headings_go_down_one_at_a_time(page: Element) -> None:
    levels = [int(each.tag[1]) for each in page.iter() if re.fullmatch("h[1-6]", each.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_table_of_cells(page: Element) -> None:
    (cells,) = [each for each in page.iter("table") if each.get("id") == "results-1-cells"]
    header, *rows = rows_of(cells)
    assert header == [
        *("policy", "slots", "host_to_device.pinned.bandwidth, GB/s", "step, ms", "p99, ms", "tokens/s"),
        *("\N{MULTIPLICATION SIGN} oracle", "hits, %", "used, %", "stall, %", "MB/step", "VRAM, GiB", "note"),
    ]
    dash = "\N{EN DASH}"
    assert len(rows) == 25
    assert rows[0] == [
        "gpu-only",
        "768",
        "10",
        "1.000",
        "2.000",
        "1000.0",
        "0.50",
        "100.0",
        dash,
        "-100.0",
        "0.0",
        "12.00",
        "yardstick",
    ]
    assert [cell[0] for cell in rows[6:13]] == ["oracle"] * 6 + ["lookahead"]
    assert rows[-1] == ["moe-infinity", "64", "10", *[dash] * 9, "moe-infinity: no train split"]
    assert [row[3] for row in rows[:-1]] == sorted((row[3] for row in rows[:-1]), key=float)
    assert [text(each) for each in of_class(cells, "failed")] == ["".join(rows[-1])]


def test_what_all_cells_share_is_told_once(page: Element) -> None:
    told = text(section(page, "results-1"))
    assert (
        "In all cells: trace a/decode/test; profile box; shape model; format fp16; kv format f16; batch 1; link fifo;"
        in told
    )


def test_many_values_changed_one_at_a_time_are_one_column(tmp_path: Path) -> None:
    names = [f"scale.part{n}.time" for n in range(4)]
    rows = [row(ms=4 + n, **{name: 0.8}) for n, name in enumerate(names)]
    found = first_screen(tmp_path, row(ms=3), *rows, row(ms=9, **{names[0]: 1.0, names[1]: 1.2}))
    (cells,) = of_class(found, "sortable")
    header, *told = rows_of(cells)
    assert header[:3] == ["policy", "changed", "step, ms"]
    assert [each[1] for each in told] == ["\N{EN DASH}", *(f"part{n}.time x 0.8" for n in range(4)), "part1.time x 1.2"]


def test_very_many_cells_are_cut_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.analysis.report.html.MOST", 3)
    found = first_screen(tmp_path, *(row(f"policy-{n}", 3 + n) for n in range(7)))
    (cells,) = of_class(found, "sortable")
    assert [told[0] for told in rows_of(cells)] == ["policy", "policy-0", "policy-1", "policy-2"]
    assert "The fastest 3 of 7 cells are shown; sweep.parquet holds all." in text(found)


def test_evidence(page: Element) -> None:
    found = section(page, "evidence")
    header, first, *_ = rows_of(next(found.iter("table")))
    assert dict(zip(header, first, strict=True)) == {
        "results": "swept",
        "routing": "a/decode/test",
        "its kind": "trained-here",
        "machine": "box",
        "evidence": "assumed",
        "model": "model",
        "format": "fp16",
        "replay": "event-atomic",
        "timed by": "re-timer",
    }


def test_commands(page: Element) -> None:
    commands = [code.text for code in section(page, "reproduce").iter("code")]
    assert commands[0] == "specmoe sweep made.toml"
    assert commands[1] is not None and commands[1].startswith("specmoe simulate switch-mini-128/decode/test")
    assert commands[2] == " ".join(COMMAND)


def test_timelines_are_links_from_the_page(page: Element) -> None:
    links = [link.get("href") for link in section(page, "timelines").iter("a")]
    assert links == ["https://ui.perfetto.dev", "swept/a%20timeline.json"]


def test_timelines_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    found = parsed(reported(tmp_path / "deep" / "page.html", timeline_dir(tmp_path / "demo")))
    assert [link.get("href") for link in section(found, "timelines").iter("a")][1] == "../demo/timeline.json"


def test_validation(page: Element) -> None:
    found = section(page, "validation")
    _, row_told = rows_of(next(found.iter("table")))
    dash = "\N{EN DASH}"
    assert row_told == ["box", "A Card", "1", "1.00", "1.00", dash, dash, "missed a target"]
    assert text(next(found.iter("li"))) == "box: x"
    assert len(list(found.iter("svg"))) == 2


# The page as a whole


def test_nothing_is_loaded(everything: str, page: Element) -> None:
    for element in page.iter():
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            value = element.get(name, "")
            local = value.startswith(("#", "data:")) or value == ""
            assert local or (element.tag == "a" and name == "href"), f"<{element.tag} {name}={value}>"
    assert "@import" not in everything
    assert re.findall(r"url\((?!#)", everything) == []


def test_phones_show_it_at_their_own_width(page: Element) -> None:
    metas = {meta.get("name"): meta.get("content") for meta in page.iter("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"


def test_only_the_pages_own_script_may_run(everything: str, page: Element) -> None:
    (script,) = page.iter("script")
    (policy,) = [m.get("content", "") for m in page.iter("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256((script.text or "").encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


def hostile(tmp_path: Path) -> Path:
    """A sweep in which every text is one that would like to be markup."""
    texts = dict.fromkeys(("trace", "profile", "shape", "semantics", "timed_by", "trace_kind", "phase"), HOSTILE)
    lists = {"assumed": [HOSTILE], "warnings": [HOSTILE]}
    rows = [row(HOSTILE, 3, **texts, **lists), guess("b", 4, **texts, **lists), failed("c", HOSTILE, **texts)]
    return sweep_dir(tmp_path / "<b>hostile", table(*rows), command=HOSTILE, hashes={HOSTILE: {HOSTILE: HOSTILE}})


def test_texts_stay_texts(tmp_path: Path) -> None:
    place = hostile(tmp_path)
    validation_dir(place, name="<i>x", missed=(HOSTILE,))
    timeline_dir(place, "<i>t.json")
    page = reported(tmp_path / "page.html", place)
    found = parsed(page)
    assert len(list(found.iter("script"))) == 1
    assert not [each for each in found.iter() if each.tag in ("i", "b")]
    assert [text(heading) for heading in found.iter("h1")] == [f"{HOSTILE} is fastest: 333 tokens/s"]
    assert HOSTILE in [code.text for code in found.iter("code")]
    assert "<script>alert" not in page


def test_same_input_same_bytes(tmp_path: Path) -> None:
    swept = sweep_dir(tmp_path / "swept", table(row(), guess("lookahead", 3), oracle()))
    directories = [swept, timeline_dir(tmp_path / "demo")]
    assert reported(tmp_path / "page.html", *directories) == reported(tmp_path / "page.html", *directories)


def test_size(everything: str) -> None:
    assert len(everything) < 700_000


def test_told(tmp_path: Path) -> None:
    seen: list[str] = []
    small = table(row(), guess("lookahead", 3.5))
    inputs = read_inputs([sweep_dir(tmp_path / "swept", small), validation_dir(tmp_path / "checked")])
    told = write_report(inputs, tmp_path / "page.html", COMMAND, seen.append)
    assert isinstance(told, Report)
    assert told.title == "lookahead is fastest: 286 tokens/s"
    assert told.answers == {"swept": answer_of(inputs.studies[0].table)}
    assert {"latency", "copies", "box"} <= set(seen)


def test_nothing_is_written_unless_all_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    out.write_text("before")

    def stop(name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(read_inputs([sweep_dir(tmp_path / "swept")]), out, COMMAND, stop)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "swept"]


def test_only_failures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cell of the sweep has figures: no room"):
        reported(tmp_path / "page.html", sweep_dir(tmp_path / "swept", table(failed("lookahead"))))
