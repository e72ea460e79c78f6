"""Texts, cut to what a provider takes at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common._text.tokens import text_bound
from llm_common.exceptions import InvalidInputError
from llm_common.llm.embedding_batches import MOST_TOKENS, EmbeddingOrder, batches_of, checked_texts, most_texts


@given(
    st.lists(st.text(min_size=1, max_size=50).map(lambda text: text * 4_000), min_size=1, max_size=40),
    st.integers(1, 9),
)
def test_no_text_is_lost_and_no_batch_too_large(texts, most):
    """Order is kept, the number is bounded, and only a single text may be beyond the token bound."""
    batches = batches_of(texts, most=most, window=None)
    assert [text for batch in batches for text in batch.texts] == texts
    for batch in batches:
        assert 1 <= len(batch.texts) <= most
        assert batch.tokens == sum(map(text_bound, batch.texts))
        assert batch.tokens <= MOST_TOKENS or len(batch.texts) == 1


def test_openais_2048_texts_are_one_request():
    """As many as it takes, and no more."""
    assert [len(b.texts) for b in batches_of(["x"] * 2_049, most=most_texts("openai"), window=8_191)] == [2_048, 1]


def test_a_text_counts_for_no_more_than_the_window():
    """What is beyond is refused by the provider, not billed."""
    (batch,) = batches_of(["x" * 100_000] * 5, most=10, window=8_191)
    assert batch.tokens == 5 * 8_191


@pytest.mark.parametrize("texts", [[], "", " \n", ["a", " "], ["a", 5], ["a", None], [b"a"]])
def test_what_cannot_be_embedded_is_refused(texts):
    """No text, a blank one, or none at all."""
    with pytest.raises(InvalidInputError):
        checked_texts(texts)


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"batch_size": 0}, {"concurrency": 0}])
def test_numbers_below_one_are_refused(wrong):
    """Before anything is sent."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        EmbeddingOrder(texts=("a",), **wrong)
