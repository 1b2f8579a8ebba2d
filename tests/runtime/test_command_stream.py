"""CommandStream: numbers, batches, credit, and a backlog that was full once stays closed."""

import pytest

import engine.runtime.command_stream
from engine.base.wire import Commands, decode_message, encode_message
from engine.runtime.command_stream import CommandStream


def pulled(stream: CommandStream) -> list[Commands]:
    messages = [decode_message(message) for message in iter(stream.next_message, None)]
    assert all(isinstance(message, Commands) for message in messages)
    return messages


def test_commands_are_numbered_from_one_and_batched() -> None:
    stream = CommandStream()
    assert stream.next_message() is None
    for number in range(2_500):
        assert stream.add(encode_message(number), None)
    batches = pulled(stream)
    assert [(batch.first, len(batch.commands)) for batch in batches] == [(1, 1_000), (1_001, 1_000), (2_001, 500)]
    assert bytes(batches[1].commands[0]) == encode_message(1_000)
    assert (stream.unanswered, stream.waiting, stream.drained) == (2_500, 0, False)
    stream.add(encode_message("next"), None)
    assert pulled(stream)[0].first == 2_501


def test_a_batch_is_bounded_in_bytes_and_a_larger_command_goes_alone() -> None:
    stream = CommandStream()
    for size in (100_000, 100_000, 100_000, 1_000_000, 10):
        stream.add(encode_message(bytes(size)), None)
    assert [len(batch.commands) for batch in pulled(stream)] == [2, 1, 1, 1]


def test_answers_give_the_credit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.runtime.command_stream, "COMMANDS_UNANSWERED_MAX", 10)
    monkeypatch.setattr(engine.runtime.command_stream, "COMMANDS_UNANSWERED_BYTES_MAX", 1_000)
    stream = CommandStream()
    replies: list[object] = []
    for _ in range(15):
        stream.add(b"\x01", replies.append)
    assert [len(batch.commands) for batch in pulled(stream)] == [10]
    assert stream.answered(3) == replies.append
    assert [batch.first for batch in pulled(stream)] == [11]
    with pytest.raises(KeyError):
        stream.answered(3)
    stream = CommandStream()
    for _ in range(3):
        stream.add(encode_message(bytes(600)), None)
    for number in (1, 2, 3):
        assert [batch.first for batch in pulled(stream)] == [number]
        stream.answered(number)
    assert stream.drained


def test_a_backlog_that_was_full_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.runtime.command_stream, "BACKLOG_COMMANDS_MAX", 5)
    stream = CommandStream()
    assert [stream.add(b"\x01", None) for _ in range(7)] == [True] * 5 + [False] * 2
    pulled(stream)
    assert not stream.add(b"\x01", None)
    for number in range(1, 6):
        assert stream.refusing
        assert not stream.drained
        stream.answered(number)
    assert stream.drained


def test_the_backlog_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.runtime.command_stream, "BACKLOG_BYTES_MAX", 1_000)
    stream = CommandStream()
    assert [stream.add(bytes(600), None) for _ in range(3)] == [True, True, False]
    with pytest.raises(ValueError, match="the most is"):
        CommandStream().add(bytes(16 << 20), None)
