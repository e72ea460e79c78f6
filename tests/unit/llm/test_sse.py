import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.llm.sse import EventReader, EventTooLargeError


def read(pieces: list[bytes]) -> list[bytes]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.end()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_they_are_cut(line_end: bytes, size: int):
    """Comments, names, several data lines, a missing space and every line end, cut at any place."""
    stream = line_end.join(
        [
            b": OPENROUTER PROCESSING",
            b"",
            b'data: {"a": "\xe2\x82\xac"}',
            b"",
            b"event: message",
            b"id: 7",
            b"data:first",
            b"data: second",
            b"data:  third",
            b"retry: 10",
            b"",
            b"data",
            b"dataset: no",
            b"",
            b"data: [DONE]",
            b"",
            b"",
        ]
    )
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert read(pieces) == [b'{"a": "\xe2\x82\xac"}', b"first\nsecond\n third", b"[DONE]"]


def test_an_event_is_given_out_as_soon_as_it_is_complete():
    """Nothing waits for the next event to begin."""
    reader = EventReader()
    assert reader.feed(b"data: 1\n") == []
    assert reader.feed(b"\n") == [b"1"]
    assert reader.feed(b"data: 2\n\ndata: 3\n\nda") == [b"2", b"3"]
    assert reader.feed(b"ta: 4\n\n") == [b"4"]


def test_the_last_event_may_lack_its_blank_line():
    """Servers that close right after [DONE] are understood."""
    assert read([b"data: 1\n\ndata: [DONE]"]) == [b"1", b"[DONE]"]


@pytest.mark.parametrize("piece", [b"x" * 10, b"data: 3456\n", b"data:\n"])
def test_an_event_without_end_is_not_gathered_for_ever(piece: bytes):
    """Beyond the limit the reader refuses, whether the bytes form one line or one event of many lines."""
    reader = EventReader(longest_event=100)

    def feed_for_ever() -> None:
        for _ in range(100):
            reader.feed(piece)

    with pytest.raises(EventTooLargeError):
        feed_for_ever()


def test_the_limit_is_for_one_event_not_for_the_stream():
    """A long stream of small events passes."""
    reader = EventReader(longest_event=100)
    assert sum(len(reader.feed(b"data: 123456789\n\n")) for _ in range(100)) == 100


@given(st.lists(st.binary(max_size=60), max_size=20), st.randoms(use_true_random=False))
def test_any_bytes_give_the_same_events_however_they_are_cut(pieces: list[bytes], random: object):
    """Cutting a stream elsewhere changes nothing, for arbitrary bytes."""
    whole = b"".join(pieces)
    assert read(pieces) == read([whole]) == read([whole[i : i + 1] for i in range(len(whole))])
