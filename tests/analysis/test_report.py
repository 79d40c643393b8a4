"""The report: one page, safe whatever stands in the database, that a real browser shows."""

import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image
from pymatgen.core import Structure

from fuse_flows.analysis.report import report_html, write_report
from fuse_flows.flows.local import submit
from fuse_flows.store import Search

pytestmark = pytest.mark.mongo
SHOWN = 2


@pytest.fixture(name="report", scope="module")
def _report(finished_search, tmp_path_factory):
    connection, search_id = finished_search
    return write_report(tmp_path_factory.mktemp("report") / "report.html", Search(search_id, connection), top=SHOWN)


def without_our_scripts(text):
    for name in ("3dmol/3Dmol-min.js", "report/report.js"):
        script = (files("fuse_flows") / "data" / name).read_text()
        assert text.count(script) == 1
        text = text.replace(script, "")
    return text


def test_bundled_viewer_is_the_published_one():
    viewer = (files("fuse_flows") / "data" / "3dmol" / "3Dmol-min.js").read_bytes()
    readme = (files("fuse_flows") / "data" / "README.md").read_text()
    assert hashlib.sha256(viewer).hexdigest() in readme
    assert len(viewer) < 1_000_000
    assert "BSD-3-Clause" in (files("fuse_flows") / "data" / "3dmol" / "LICENSE").read_text()


class Tags(HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.addresses = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value for name, value in attrs if name in {"src", "href", "action", "srcset", "data"}]


def test_page_is_one_file_and_names_nothing_outside(report):
    text = without_our_scripts(report.read_text())
    tags = Tags(text)
    assert tags.addresses
    assert all(address.startswith(("data:", "#structure-")) for address in tags.addresses)
    assert not tags.names & {"link", "iframe", "object", "embed", "base", "form"}
    assert not any(name.startswith("on") or name == "style" for name in tags.attributes)
    assert "url(" not in text
    assert "default-src &#39;none&#39;" in text


def test_texts_of_the_search_are_escaped(report, search):
    text = without_our_scripts(report.read_text())
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert html.escape(search.config.label) in text
    origins = {doc["origin"] for doc in search.unique()} - {None}
    assert any("<img" in origin for origin in origins)
    assert all(html.escape(origin) in text for origin in origins)
    assert text.count("<script") == text.count("</script>") == 3
    (structures,) = re.findall(r'<script type="application/json" id="structures">(.*?)</script>', text, re.DOTALL)
    assert "<" not in structures
    assert len(json.loads(structures)) == SHOWN


def test_page_says_what_was_run(report, search):
    text = html.unescape(report.read_text())
    assert search.config.to_yaml() in text
    for doc in search.unique():
        assert doc["candidate_id"] in text
        assert f"{doc['energy_per_atom']:.5f}" in text
    for calculator, version in search.tiers()[["calculator", "calculator_version"]].itertuples(index=False):
        assert f"<td>{calculator}</td><td>{version}</td>" in text


def test_files_of_structures_on_the_page_are_the_structures(report, search):
    cifs = re.findall(r"</summary><pre>(# generated.*?)</pre>", report.read_text(), re.DOTALL)
    assert len(cifs) == SHOWN
    for cif, doc in zip(cifs, search.unique(), strict=False):
        read = Structure.from_str(html.unescape(cif), fmt="cif")
        assert read.volume == pytest.approx(Structure.from_dict(doc["structure"]).volume, rel=1e-9)
        assert len(read) == doc["n_atoms"]


def test_report_before_anything_has_relaxed(connection, search):
    waiting = search.config.model_copy(update={"pool": type(search.config.pool)()})
    submit(connection, waiting)
    text = report_html(Search(waiting.search_id, connection))
    assert "No structure has relaxed successfully yet." in text
    assert 'class="viewer"' not in text


@pytest.mark.slow
def test_browser_shows_it(report, search, page):
    page.open(report.as_uri())
    assert page.evaluate("document.title") == search.search_id
    rows = page.evaluate("document.querySelectorAll('#minima tbody tr').length")
    assert rows == len(search.unique())

    loaded = "Array.from(document.images, image => image.complete && image.naturalWidth)"
    sizes = page.evaluate(loaded)
    assert len(sizes) == 5 + SHOWN
    assert min(sizes) > 300

    for place, doc in enumerate(search.unique(SHOWN)):
        box = f"document.querySelectorAll('.viewer')[{place}]"
        page.evaluate(f"{box}.scrollIntoView()")
        page.wait_for(f"{box}.dataset.atoms || {box}.dataset.failed")
        assert page.evaluate(f"{box}.dataset.failed") is None
        assert int(page.evaluate(f"{box}.dataset.atoms")) >= doc["n_atoms"]
        frame = page.evaluate(
            f"(r => ({{x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height}}))"
            f"({box}.getBoundingClientRect())"
        )
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot(**frame))).convert("RGB")).astype(int)
        colourful = np.ptp(picture, axis=2) > 60  # copper and gold are orange and yellow, the frame and labels grey
        assert colourful.mean() > 0.005

    conventional = "document.querySelector('button[data-cell=conventional]')"
    before = page.evaluate("document.querySelector('.viewer').dataset.shown")
    page.evaluate(f"{conventional}.click()")
    after = page.evaluate("document.querySelector('.viewer').dataset.shown")
    assert (before, after) == ("relaxed", "conventional")

    assert page.complaints() == []
    assert [address for address in page.requests() if not address.startswith("data:")] == [report.as_uri()]


@pytest.mark.slow
def test_viewers_share_the_graphics(report, page, tmp_path):
    """The one used longest ago gives its context back, and draws again when it is seen again."""
    short = tmp_path / "short.html"
    short.write_text(report.read_text().replace('data-live="8"', 'data-live="1"'))
    page.call("Emulation.setDeviceMetricsOverride", width=1000, height=250, deviceScaleFactor=1, mobile=False)
    page.open(short.as_uri())
    boxes = [f"document.querySelectorAll('.viewer')[{place}]" for place in (0, 1, 0)]
    for box, other in zip(boxes, ["null", *boxes], strict=False):
        page.evaluate(f"{box}.scrollIntoView()")
        page.wait_for(f"{box}.dataset.atoms")
        assert page.evaluate(f"{other} === null || {other}.childElementCount") in {0, True}
    assert page.complaints() == []


@pytest.mark.slow
def test_browser_runs_no_other_script(report, page, tmp_path):
    """Were something not escaped after all, the page's policy would still keep it from running or being loaded."""
    bad = tmp_path / "bad.html"
    injected = "<script>window.broken = 1</script><img src='https://example.org/x.png' onerror='window.broken = 2'>"
    bad.write_text(report.read_text().replace("<h2>Summary</h2>", injected))
    page.open(bad.as_uri())
    assert page.evaluate("typeof window.broken") == "undefined"
    assert "Content Security Policy" in str(page.complaints())
