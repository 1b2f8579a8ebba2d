"""The corpus: what is kept, for how long, by several processes at once, and what it says of files it can not use."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine.simulation import corpus as module
from engine.simulation.corpus import FOLDER, PASSES_WANTED, Corpus, Entry, corpus_folder

ROOT = Path(__file__).parents[2]


class Told(list[str]):
    """What a corpus has said."""


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def kept(tmp_path: Path, told: Told) -> Corpus:
    return Corpus(tmp_path / FOLDER, "test_it.py::test_one", told.append)


def seeds(corpus: Corpus, settings: str = "s1") -> list[int]:
    return [entry.seed for entry in corpus.entries(settings)]


def test_a_seed_is_kept_in_a_file_that_says_everything(kept: Corpus) -> None:
    path = kept.keep(17, "s1", "always: " + "x" * 5_000)
    assert path is not None
    entry = msgspec.json.decode(path.read_bytes(), type=Entry)
    assert (entry.test, entry.seed, entry.settings, entry.passed) == ("test_it.py::test_one", 17, "s1", 0)
    assert entry.breach.startswith("always: x")
    assert len(entry.breach) == module.BREACH_CHARS_MAX
    assert entry.at.endswith("Z")
    assert seeds(kept) == [17]
    assert [one.name for one in kept.folder.iterdir()] == [path.name]


def test_nothing_is_written_before_something_failed(kept: Corpus, told: Told) -> None:
    assert seeds(kept) == []
    assert not kept.folder.exists()
    assert told == []


def test_it_leaves_after_it_has_passed_often_enough(kept: Corpus, told: Told) -> None:
    kept.keep(17, "s1", "broken")
    for number in range(PASSES_WANTED):
        (entry,) = kept.entries("s1")
        assert entry.passed == number
        kept.passed(entry)
    assert seeds(kept) == []
    assert told == [f"test_it.py::test_one: seed 17 has passed {PASSES_WANTED} times and is no longer kept."]
    assert list(kept.folder.iterdir()) == []


def test_a_new_failure_begins_to_count_anew(kept: Corpus) -> None:
    kept.keep(17, "s1", "broken")
    kept.passed(kept.entries("s1")[0])
    kept.keep(17, "s1", "broken again")
    (entry,) = kept.entries("s1")
    assert (entry.passed, entry.breach) == (0, "broken again")


def test_who_removes_a_file_is_obeyed(kept: Corpus) -> None:
    path = kept.keep(17, "s1", "broken")
    (entry,) = kept.entries("s1")
    assert path is not None
    path.unlink()
    kept.passed(entry)
    assert not path.exists()


def test_seeds_of_other_settings_are_told_and_not_run(kept: Corpus, told: Told) -> None:
    kept.keep(17, "s1", "broken")
    kept.keep(18, "s2", "broken")
    assert seeds(kept, "s2") == [18]
    assert "kept seeds 17 failed under other settings" in told[0]
    assert str(kept.folder) in told[0]


def test_tests_do_not_see_each_other_s_seeds(kept: Corpus, told: Told) -> None:
    other = Corpus(kept.folder, "test_it.py::test-one", told.append)  # alike, once its name is made a file's name
    kept.keep(1, "s1", "broken")
    other.keep(2, "s1", "broken")
    assert (seeds(kept), seeds(other)) == ([1], [2])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"test": 5}', b"[" * 100_000])
def test_a_damaged_file_is_told_and_left_alone(kept: Corpus, told: Told, content: bytes) -> None:
    kept.keep(1, "s1", "broken")
    path = kept.keep(2, "s1", "broken")
    assert path is not None
    path.write_bytes(content)
    assert seeds(kept) == [1]
    assert "can not be read and is ignored" in told[0]
    assert str(path) in told[0]
    assert path.read_bytes() == content


def test_a_file_with_somebody_else_s_content_is_ignored(kept: Corpus, told: Told) -> None:
    path = kept.keep(1, "s1", "broken")
    assert path is not None
    path.rename(path.with_name(path.name.replace("-1-s1", "-7-s1")))
    assert seeds(kept) == []
    assert "does not hold what its name says" in told[0]


def test_a_folder_that_can_not_be_written_fails_no_test(tmp_path: Path, told: Told) -> None:
    (tmp_path / "file").write_text("")
    corpus = Corpus(tmp_path / "file" / "seeds", "t", told.append)
    assert corpus.keep(1, "s1", "broken") is None
    assert seeds(corpus) == []
    assert "Seed 1 of t could not be kept" in told[0]


def test_the_oldest_of_a_test_leaves_and_a_full_folder_takes_no_more(
    kept: Corpus, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEST_ENTRIES_MAX", 3)
    for seed in range(5):
        path = kept.keep(seed, "s1", "broken")
        assert path is not None
        entry = msgspec.json.decode(path.read_bytes(), type=Entry)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, at=f"2026-01-0{seed + 1}T00:00:00Z")))
    assert seeds(kept) == [2, 3, 4]
    monkeypatch.setattr(module, "FOLDER_ENTRIES_MAX", 3)
    other = Corpus(kept.folder, "other", told.append)
    assert other.keep(1, "s1", "broken") is None
    assert "remove what nobody needs" in told[-1]
    assert kept.keep(4, "s1", "broken") is not None  # it is there already


def test_processes_that_run_at_once_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from engine.simulation.corpus import Corpus\n"
        "first = int(sys.argv[1])\n"
        "corpus = Corpus(Path(sys.argv[2]), 't', print)\n"
        "for number in range(20): assert corpus.keep(first + number % 15, 's1', 'broken'); corpus.entries('s1')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", script]
    running = [
        subprocess.Popen([*argv, str(first), str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True)
        for first in (0, 10, 20)  # they overlap
    ]
    for one in running:
        out, _ = one.communicate(timeout=60)
        assert (one.returncode, out) == (0, "")
    assert sorted(seeds(Corpus(tmp_path, "t", print))) == list(range(35))
    assert not list(tmp_path.glob("*.part"))


def test_where_the_kept_seeds_are(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("")
    assert corpus_folder(str(file), None) == tmp_path / FOLDER
    assert corpus_folder(str(file), "elsewhere") == Path("elsewhere")
    assert corpus_folder(str(file), "off") is None
    assert corpus_folder("<stdin>", None) is None
