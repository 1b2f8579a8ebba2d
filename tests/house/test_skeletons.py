from tests.house import skeletons
from tests.house.conftest import Plant

PAGE = """# Contributing

```python
import msgspec
from engine.base.ids import START, EventId, is_name, gone
from engine.base.attic import Old
```

Text.

```python
def broken(
```
"""


def test_a_skeleton_that_no_longer_fits_is_told_with_its_line(plant: Plant) -> None:
    house = plant(
        {
            "CONTRIBUTING.md": PAGE,
            "engine/base/ids.py": (
                "class EventId: ...\nif TYPE_CHECKING:\n    START = 1\nelse:\n    START = 2\ndef is_name(): ...\n"
            ),
        }
    )
    assert [complaint.split(";")[0] for complaint in skeletons.check_skeletons(house)] == [
        "CONTRIBUTING.md:5: engine.base.ids has no gone any more",
        "CONTRIBUTING.md:6: engine.base.attic has no Old any more",
        "CONTRIBUTING.md:12: does not parse: '(' was never closed",
    ]
