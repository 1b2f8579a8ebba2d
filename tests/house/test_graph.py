from tests.house import graph
from tests.house.conftest import Plant
from tests.house.floors import FLOORS

FILES = {
    "engine/base/ids.py": "x = 1\n",
    "engine/model/order.py": "import engine.base.ids\nfrom engine.base import ids\nimport engine.model.job\n",
    "engine/model/job.py": "",
}


def test_text_counts_files_lines_and_imports(plant: Plant) -> None:
    lines = graph.draw_text(plant(FILES)).splitlines()
    assert len(lines) == sum(len(packages) for _, packages in FLOORS)
    assert lines[-1].split() == "0 engine.base 1 files 1 lines imports nothing of ours".split()
    assert lines[-3].split() == "2 engine.model 2 files 3 lines imports engine.base (2)".split()
    assert lines[-2].endswith("not built yet")


def test_mermaid_draws_one_arrow_for_each_pair(plant: Plant) -> None:
    drawing = graph.draw_mermaid(plant(FILES))
    assert drawing.startswith("graph TD\n")
    assert drawing.count("-->") == 1
    assert "engine_model --> engine_base" in drawing
