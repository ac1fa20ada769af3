"""`inspect --plot` and `--html`, `profile --html`: whole files in which no name can do anything."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.cli.layout import layout
from tests.cli.conftest import DATA, HIGGS, Run

SVG = "{http://www.w3.org/2000/svg}"
EVIL = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "]]></style><script>alert(2)</script>",
    "&lt;b&gt; &#60;\x07\x1b[31m",
    "</title></svg><iframe src='http://example.org'>",
)


class Elements(HTMLParser):
    """The names of all elements, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "path", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "rect", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def evil(path: Path) -> Path:
    """Names of everything that a file can name."""
    names = iter(EVIL)
    value = helper.make_tensor_value_info
    ports = [value(next(names), TensorProto.FLOAT, ["N", 3])]
    out = [value(next(names), TensorProto.FLOAT, ["N", 3])]
    nodes = [
        helper.make_node("Exp", [ports[0].name], [next(names)], name=next(names)),
        helper.make_node("Softmax", [EVIL[2]], [out[0].name], name=next(names)),
    ]
    graph = helper.make_graph(nodes, EVIL[0], ports, out)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name=EVIL[1]
    )
    onnx.save(model, path)
    return path


def only_harmless(text: str) -> Elements:
    """It is well formed, and nothing in it runs or is fetched."""
    found = Elements(text)
    assert found.open == []
    known = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table",
             "tr", "th", "td", "svg", "g", "rect", "path", "text"}  # fmt: skip
    assert {tag for tag, _ in found.found} <= known
    for _, attributes in found.found:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    assert "\x07" not in text
    assert "\x1b" not in text
    return found


@pytest.mark.parametrize("command", ["inspect", "profile"])
def test_names_cannot_do_anything_in_a_page(run: Run, tmp_path: Path, command: str) -> None:
    page = tmp_path / "page.html"
    done = run(command, evil(tmp_path / "evil.onnx"), "--html", page)
    assert done.code == 0, done.err
    text = page.read_text()
    found = only_harmless(text)
    policy = [a for tag, a in found.found if tag == "meta" and "http-equiv" in a]
    assert policy[0]["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "<script" not in text
    # It is shown as it is.
    assert any(EVIL[0] in one for one in found.texts)
    assert any("onerror=alert(1)" in one for one in found.texts)


def test_names_cannot_do_anything_in_a_picture(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "graph.svg"
    done = run("inspect", evil(tmp_path / "evil.onnx"), "--plot", file)
    assert (done.code, done.out) == (0, f"{file}\n"), done.err
    tree = ElementTree.parse(file)
    tags = {element.tag.removeprefix(SVG) for element in tree.iter()}
    assert tags == {"svg", "style", "rect", "text", "g", "path", "title"}
    only_harmless(file.read_text())


def test_the_picture_has_both_graphs(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "graph.svg"
    assert run("inspect", HIGGS, "--plot", file).code == 0
    texts = [element.text or "" for element in ElementTree.parse(file).iter(f"{SVG}text")]
    assert {"higgs as read", "higgs as run"} <= set(texts)
    model = sofie.load(HIGGS)
    for node in model.graph.nodes:
        assert node.origin.name in texts
    assert "float32[N, 7]" in texts
    assert "sofie.DenseLayers" in texts
    boxes = [e for e in ElementTree.parse(file).iter(f"{SVG}g") if e.get("class") in ("n", "p")]
    assert len(boxes) == 16 + 1 + 4


def test_a_page_has_times_if_they_were_measured(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("inspect", DATA / "jet_tagger.onnx", "--html", page).code == 0
    assert "One call takes" not in page.read_text()
    done = run("profile", DATA / "jet_tagger.onnx", "--html", page, "--json")
    assert done.code == 0, done.err
    text = page.read_text()
    only_harmless(text)
    assert "One call takes" in text
    assert "rgb(" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_what_is_wrong(run: Run, tmp_path: Path) -> None:
    assert run("inspect", HIGGS, "--plot", "graph.png").code == 2
    assert run("inspect", HIGGS, "--html", "graph.svg").code == 2
    assert run("inspect", HIGGS, "--html", "a.html", "--json").code == 2
    done = run("inspect", HIGGS, "--html", tmp_path / "none" / "page.html")
    assert done.code == 1
    assert "cannot be written: No such file or directory" in done.err
    both = tmp_path / "both.root"
    sofie.load(HIGGS).save(both)
    sofie.load(HIGGS, "other").save(both)
    done = run("inspect", both, "--html", tmp_path / "page.html")
    assert done.code == 1
    assert "Choose one: --name NAME" in done.err


# Where boxes stand --------------------------------------------------------------------------------


def test_layers_go_down_and_nothing_overlaps() -> None:
    sizes = [(40.0, 20.0)] * 9
    edges = [(0, 2), (1, 2), (2, 3), (2, 4), (2, 5), (3, 6), (4, 6), (5, 7), (0, 8), (7, 8), (6, 8)]
    found = layout(sizes, edges)
    for start, end in edges:
        assert found.boxes[start].y < found.boxes[end].y
    for i, one in enumerate(found.boxes):
        assert 20 <= one.x <= found.width - 20
        assert 10 <= one.y <= found.height - 10
        for other in found.boxes[:i]:
            assert abs(one.x - other.x) >= 40 or abs(one.y - other.y) >= 20
    # A line over several layers has a place in each of them, beside the boxes there.
    long = found.lines[edges.index((0, 8))]
    assert len(long) == 5
    for point in long[1:-1]:
        assert all(abs(point.x - b.x) > 20 or abs(point.y - b.y) > 10 for b in found.boxes)


def test_no_boxes_and_one_box() -> None:
    assert layout([], []).boxes == []
    assert layout([(10.0, 10.0)], []).width == 10


def test_many_boxes() -> None:
    """Lines over very many layers go straight."""
    count = 3000
    edges = [(i, i + 1) for i in range(count - 1)] + [(i, count - 1) for i in range(count - 2)]
    found = layout([(40.0, 20.0)] * count, edges)
    assert len(found.boxes) == count
    assert all(len(line) == 2 for line in found.lines)
