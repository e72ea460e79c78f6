from hypothesis import given
from hypothesis import strategies as st

from llm_common._runtime.memory_cache import MemoryCache
from llm_common.search.cached_search import CachedAnswer
from llm_common.web_search import SearchResult


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def entry(folded="q", chars=10):
    return CachedAnswer(folded, (SearchResult(title="T", url="https://a.gov", snippet="x" * chars),))


def put(cache, key, value=None, ttl=10.0):
    cache.put(key, value or entry(), ttl=ttl, generation=cache.generation)


def test_an_entry_lives_for_its_time():
    """Until the last moment, and not a moment longer."""
    clock = Clock()
    cache = MemoryCache(clock=clock)
    put(cache, "k", ttl=10)
    clock.now = 9.9
    assert cache.get("k") is not None
    clock.now = 10.0
    assert cache.get("k") is None
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_time_of_zero_keeps_nothing():
    """That is how the tier is turned off."""
    cache = MemoryCache()
    put(cache, "k", ttl=0)
    assert cache.get("k") is None


def test_the_least_recently_used_goes_first():
    """Reading counts as using."""
    cache = MemoryCache(max_entries=2)
    put(cache, "a")
    put(cache, "b")
    cache.get("a")
    put(cache, "c")
    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]


def test_one_giant_does_not_push_out_the_rest():
    """An answer larger than the cache is not kept at all."""
    cache = MemoryCache(max_bytes=20_000)
    put(cache, "a")
    put(cache, "giant", entry(chars=30_000))
    assert cache.get("a") is not None
    assert cache.get("giant") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5_000))))
def test_bytes_and_entries_stay_within_bounds(puts):
    """Whatever is put, and the books are right at the end."""
    cache = MemoryCache(max_entries=3, max_bytes=12_000)
    for key, chars in puts:
        put(cache, key, entry(chars=chars))
        assert cache.bytes <= 12_000
        assert len(cache) <= 3
    held = [found for key in "abcdef" if (found := cache.get(key))]
    assert cache.bytes == sum(one.size for one in held)


def test_invalidation_forgets_what_matches():
    """And gives its number."""
    cache = MemoryCache()
    put(cache, "1", entry("sb 277"))
    put(cache, "2", entry("sb 278"))
    assert cache.invalidate(lambda entry: entry.folded_query == "sb 277") == 1
    assert (cache.get("1"), cache.get("2") is not None) == (None, True)


def test_an_answer_from_before_an_invalidation_is_not_kept():
    """A fetch that was under way when somebody said "forget it" must not bring it back."""
    cache = MemoryCache()
    before = cache.generation
    cache.invalidate(lambda _: True)
    cache.put("k", entry(), ttl=10, generation=before)
    assert cache.get("k") is None
