"""A quote is found in whatever presentation its text is, and not when one letter, sign, mark or digit is another."""

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm_common._text.quotes import find_quote, live_text, unusable

SENTENCES = (
    "The sum of $12,500,000 is hereby appropriated from the general fund to the office of final audits in 2027",
    "A person who fails to file shall pay a fine of 4.25% or €750 and shall not be refunded",
    "Balances fell by \u22125.5 percent while the café owners\u2019 share rose by 17 percent before June 30",
    "Der Betrag von 5.000 € wird für jede Gemeinde gewährt, wenn die Prüfung älter als 12 Monate ist",
    "Mức phạt là 2.000.000 đồng đối với hành vi vi phạm quy định tại điều này",
    "मंत्रालय प्रत्येक ज़िले में ५०० किताबों की सूची प्रकाशित करेगा और शुल्क नहीं लेगा",
    "அமைச்சகம் ஒவ்வொரு மாவட்டத்திலும் 500 நூல்களின் பட்டியலை வெளியிடும்",
    "ต้องจ่ายค่าปรับไม่เกิน 5,000 บาท แก่ผู้เสียหายทุกคนภายในสามสิบวัน",
    "对违反本法第十二条规定的单位处以500万元以下的罚款并责令限期改正",
    "この法律に違反した者は、5年以下の懲役又は500万円以下の罰金に処する",
    "위반한 자는 5년 이하의 징역 또는 5천만원 이하의 벌금에 처한다",
    "يعاقب بغرامة لا تقل عن 500 دينار كل من خالف أحكام هذا القانون",
)
LAW = "Section 9 stays as it is.\n"
EXPLANATION = "\n EXPLANATION--Matter in italics is new; matter in brackets\n          [ ] is old law to be omitted.\n"

Draw = Callable[[int], int]


def numbered(lines: list[str]) -> str:
    """As printed bills are: each line with its number, each page with footer and header."""
    printed: list[str] = []
    for place, line in enumerate(lines):
        if place and place % 4 == 0:
            printed += [
                "                    LBD14910-04-4",
                f"    A. 10052--A                         {place // 4 + 1}",
            ]
        printed.append(f"{place % 4 + 1:>2}   {line}")
    return "\n".join(printed)


def wrapped(text: str, width: int) -> list[str]:
    words = text.split(" ")
    return [" ".join(words[start : start + width]) for start in range(0, len(words), width)]


def broken(text: str, mark: str) -> str:
    """Long words of Latin letters are broken over two lines."""
    return re.sub(r"\b([a-z]{4})([a-z]{3,})\b", rf"\1{mark}\2", text)


PRESENTATIONS: dict[str, Callable[[str, int], str]] = {
    "as it is": lambda text, _: text,
    "decomposed": lambda text, _: unicodedata.normalize("NFD", text),
    "ligatures": lambda text, _: text.replace("ffi", "\ufb03").replace("fi", "\ufb01").replace("ff", "\ufb00"),
    "full width": lambda text, _: re.sub(r"[0-9]", lambda digit: chr(0xFEE0 + ord(digit[0])), text),
    "wrapped": lambda text, seed: "\r\n   ".join(wrapped(text, 3 + seed % 5)),
    "broken words": lambda text, _: broken(text, "-\r\n    "),
    "soft hyphens": lambda text, _: broken(text, "\u00ad\n"),
    "no-break spaces": lambda text, _: text.replace(" ", "\u00a0"),
    "numbered lines": lambda text, seed: numbered(wrapped(text, 3 + seed % 5)),
    "broken and numbered": lambda text, _: numbered(broken(text, "-\n").split("\n")),
    "struck by tildes": lambda text, seed: between(text, seed, "~~$7,777 or nothing~~"),
    "struck by tags": lambda text, seed: between(text, seed, "<strike>he or <b>she</b></strike> <u></u>"),
    "struck by brackets": lambda text, seed: between(text, seed, "[he or\nshe]") + EXPLANATION,
    "words marked as new": lambda text, seed: between(text, seed, "<ins></ins>").replace("the ", "_the_ "),
    "notes": lambda text, _: re.sub(r"(?<=[a-z]{3}) ", "\u00b2 ", text),
}


def between(text: str, seed: int, what: str) -> str:
    words = text.split(" ")
    place = 1 + seed % (len(words) - 1) if len(words) > 1 else 0
    return " ".join([*words[:place], what, *words[place:]])


def letters(text: str) -> str:
    """What is left of a text without anything that a presentation may change."""
    plain = unicodedata.normalize("NFKC", text.replace("\u00b2", "")).casefold().replace("\u00ad", "")
    return "".join(sign for sign in plain if unicodedata.category(sign)[0] in "LMNS" and sign not in "<>~|")


#: Another one of the same kind: a letter, a digit, a sign, a vowel sign, a tone mark.
OTHERS = (
    ("0123456789", "0123456789"),
    ("०१२३४५६७८९", "०१२३४५६७८९"),
    ("$€%\u2212", "$€%£"),
    ("\u093e\u093f\u0940\u0941\u0942\u0947\u094b\u0902", "\u093e\u093f\u0940\u0941\u0942\u0947\u094b\u0902"),
    ("\u0bbe\u0bbf\u0bc1\u0bc8\u0bca\u0bcd", "\u0bbe\u0bbf\u0bc1\u0bc8\u0bca\u0bcd"),
    ("\u0e48\u0e49\u0e4a", "\u0e48\u0e49\u0e4a\u0e4b"),
    ("\u0e34\u0e35\u0e38\u0e39\u0e31", "\u0e34\u0e35\u0e38\u0e39\u0e31"),
    ("\u0300\u0301\u0302\u0303\u0308\u0309\u031b\u0323", "\u0300\u0301\u0302\u0303\u0308\u0309\u0323"),
)


def changed(quote: str, place: int, pick: int) -> str:
    """The quote with the character at `place` another one of its kind."""
    text = unicodedata.normalize("NFD", quote)
    place %= len(text)
    old = text[place]
    kind = next((new for olds, new in OTHERS if old in olds), None)
    if kind is None:
        if not old.isalpha():
            return quote
        kind = "abcdefghijklmnopqrstuvwxyz" if old.isascii() else chr(ord(old) + 1) + chr(ord(old) - 1)
    new = kind[pick % len(kind)]
    other = text[:place] + new + text[place + 1 :]
    return unicodedata.normalize("NFC", other)


@pytest.mark.parametrize("name", PRESENTATIONS)
@given(
    sentence=st.sampled_from(SENTENCES),
    seed=st.integers(0, 50),
    cut=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    place=st.integers(0, 200),
    pick=st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_a_quote_is_found_in_any_presentation_and_another_one_is_not(
    name: str, sentence: str, seed: int, cut: tuple[int, int], place: int, pick: int
) -> None:
    """Its offsets give its words again; with one letter, digit, sign, vowel sign or tone mark changed it is nowhere."""
    text = LAW + PRESENTATIONS[name](sentence, seed) + ". Section 10 stays, too.\n"
    words = sentence.split(" ")
    quote = " ".join(words[min(cut[0], len(words) // 3) : len(words) - min(cut[1], len(words) // 3)])
    assume(unusable(quote) is None)
    span = find_quote(quote, text)
    assert span is not None
    assert letters(quote) in letters(live_text(text, *span))
    other = changed(quote, place, pick)
    assume(letters(other) != letters(quote))
    assert find_quote(other, text) is None


def naive(quote: str, text: str) -> bool:
    """As one would look a quote up: the same words one after the other."""
    return " ".join(re.findall(r"\w+", quote.casefold())) in " ".join(re.findall(r"\w+", text.casefold()))


def test_words_alone_would_not_do() -> None:
    """The control: by words alone other signs and tones are found, and presentations are not."""
    assert naive("fell by 5.5 percent", SENTENCES[2])
    assert find_quote("fell by 5.5 percent", SENTENCES[2]) is None
    assert naive("จ่ายค่าปรับไม้เกิน", SENTENCES[7].replace("\u0e48", "\u0e49", 3))
    missed = [name for name, shown in PRESENTATIONS.items() if not naive(SENTENCES[0], shown(SENTENCES[0], 3))]
    assert {"broken words", "soft hyphens", "numbered lines", "struck by tildes"} <= set(missed)


NEW_YORK = (
    f"A person shall pay a fine of [$500] $5,000 to the state and [he or she] SUCH PERSON shall resign.{EXPLANATION}"
)


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("shall pay a fine of $5,000 to the state", "shall pay a fine of [$500] $5,000 to the state"),
        ("and such person shall resign", "and [he or she] SUCH PERSON shall resign"),
        ("shall pay a fine of [$500]", "shall pay a fine of"),
        ("a fine of [$500] $5,000 to the state", "a fine of [$500] $5,000 to the state"),
        ("shall pay a fine of $500", None),
        ("and he or she shall resign", None),
        ("and [he or she] shall resign", None),
        ("[he or she]", None),
    ],
)
def test_struck_text_supports_nothing(quote: str, found: str | None) -> None:
    """What a bill puts into brackets, and says that it omits, may be skipped within a quote, and is no part of one."""
    span = find_quote(quote, NEW_YORK)
    assert (None if span is None else NEW_YORK[slice(*span)]) == found


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("A <strike>b</strike> c", "A  c"),
        ("A <s class='x'>b <s>d</s></s> c", "A  c"),
        ("A <DEL>b</DEL><ins>c</ins>", "A c"),
        ('A <span style="text-decoration: line-through">b</span><span> c</span>', "A  c"),
        ("A ~~b~~ c", "A  c"),
        ("A b\u0336o\u0336 c", "A  c"),
        ("A deleted text begin b deleted text end new text begin c new text end", "A  \n c \n"),
        ("A [b] c", "A [b] c"),
        (
            "A [b] c. [Brackets] indicate matter deleted from existing law.",
            "A  c.  indicate matter deleted from existing law.",
        ),
        ("A [b [d] e] c. Material in [brackets] is omitted.", "A  c. Material in  is omitted."),
        (
            "New matter is underlined, deletions are bracketed. [b]",
            "New matter is underlined, deletions are bracketed. ",
        ),
        ("NEW TEXT UNDERLINED [DELETED TEXT BRACKETED] [b]", "NEW TEXT UNDERLINED  "),
        ("Matter in [brackets] is new; matter struck through is omitted. [b]", None),
        ("The tax brackets of existing law are repealed. [b]", None),
        ("A <s>b c without an end", None),
        ("A ~~b\n\nc~~ d", None),
        ("~~~~~~~~\nA b\n~~~~~~~~", None),
        ("a < b and c > d", None),
    ],
)
def test_what_is_struck(text: str, live: str | None) -> None:
    """Each way to strike text is known; marks without their other half, and other brackets, strike nothing."""
    assert live_text(text) == (text if live is None else live)


PRINTED = """\
1   The sum of twelve million dollars is hereby
2   appropriated from the General
                                  LBD14910-04-4
    A. 10052--A                         2
1   Fund to the depart-
2   ment for 3 years.
"""


def test_numbers_of_lines_and_headers_may_be_left_out_or_not() -> None:
    """A quote over lines and pages is found with and without what printing added; its offsets hold all of it."""
    whole = PRINTED[4:].rpartition(" years")[0]
    span = find_quote(
        "The sum of twelve million dollars is hereby appropriated from the General Fund to the department for 3",
        PRINTED,
    )
    assert PRINTED[slice(*(span or (0, 0)))] == whole
    assert find_quote("is hereby 2 appropriated from the General", PRINTED) is not None
    assert find_quote("is hereby 3 appropriated from the General", PRINTED) is None
    assert live_text(PRINTED).split("\n") == [
        "The sum of twelve million dollars is hereby",
        "appropriated from the General",
        "Fund to the depart-",
        "ment for 3 years.",
        "",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2025   $500\n2026   $600\n2027   $700\n",
        "1. Apples are sold\n2. Pears are sold\n3. Plums are sold\n",
        "(1) Apples are sold\n(2) Pears are sold\n",
        "1 January is a holiday\nand the office closes early\n1 May is one, too\n",
        "Fee:\n$50 a year;\nother fee:\n$50 a year;\nlast fee:\n$50 a year;\n",
        "Rent $5\nFood $6\nRent $7\nFood $8\n",
    ],
)
def test_lists_and_tables_are_no_furniture(text: str) -> None:
    """Years, list marks and repeated entries stay part of the text, so no quote can leave them out."""
    assert live_text(text) == text


WORDS = ("one", "two", "three", "four")


def test_headers_that_come_again() -> None:
    """A line that comes again with a page number that counts up may be left out of a quote over it."""
    pages = [[f"The {place} of {word} pages stays" for place in ("first", "second", "third", "last")] for word in WORDS]
    text = "".join("\n".join([*page, f"House Bill 55 as amended, page {n}\n"]) for n, page in enumerate(pages, start=1))
    span = find_quote("the last of two pages stays the first of three pages stays", text)
    assert span is not None
    assert "amended, page 2" in text[slice(*span)]
    assert find_quote("55 as amended, page 2", text) is not None


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("x < 5 percent then", "If x > 5 percent then the board acts."),
        ("x > 5 percent then", "If x \u2039 5 percent then the board acts."),
        ("5 percent of the sum", "It falls to \u22125 percent of the sum."),
        ("$5 million of the sum", "It falls to -$5 million of the sum."),
        ("-5 percent of the sum", "It falls to 5 percent of the sum."),
        ("rates of 1 5 percent here", "Rates of 1.5 percent here."),
        ("an area of 10\u00b3 units", "An area of 10\u00b2 units."),
        ("an area of 102 units", "An area of 10\u00b2 units."),
        ("a rate of 21/2 percent", "A rate of 2\u00bd percent."),
        ("paid by the depart", "Paid by the depart-\nment in full."),
        ("ment in full or not", "Paid by the depart-\nment in full or not."),
        ("the re\u0301sume\u0301 is filed", "The resume is filed."),
    ],
)
def test_signs_and_parts_of_words_are_refused(quote: str, text: str) -> None:
    """Another sign, a power or fraction taken for a number, and half of a broken word are not in the text."""
    assert find_quote(quote, text) is None


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("x < 5 percent then", "If x \u2039 5 percent then the board acts."),
        ("fell by -5 percent", "It fell by \u22125 percent."),
        ("fell by \u20135 percent", "It fell by -5 percent."),
        ("in 2025-2027 the board", "In 2025\u20132027 the board acts."),
        ("a rate of 2 1/2 percent", "A rate of 2\u00bd percent."),
        ("the department\u00b3 shall act", "The department\u00b3 shall act."),
        ("the department3 shall act", "The department\u00b3 shall act."),
        ("the department shall act", "The department<sup>3</sup> shall act."),
        ("the department shall act", "The department.[12] Shall act."),
        ("sold by Acme in stores", "Sold by Acme\u2122 in stores."),
        ("the strasse is closed", "The Straße is CLOSED."),
        ("die Stra\u00dfe ist zu", "DIE STRASSE IST ZU"),
        (
            "\u039f \u039f\u0394\u039f\u03a3 \u0391\u03a3 \u0388\u03a1\u0398\u0395\u0399",
            "\u039f \u03bf\u03b4\u03bf\u03c2 \u03b1\u03c2 \u03ad\u03c1\u03b8\u03b5\u03b9",
        ),
    ],
)
def test_same_words_in_other_signs(quote: str, text: str) -> None:
    """Dashes, fractions, notes, trade marks and capitals are told from what changes the meaning."""
    assert find_quote(quote, text) is not None


def test_a_long_quote_is_told_from_a_wrong_one() -> None:
    """A quote that is too long, or too short, is not called missing from its text."""
    assert "4,001 characters" in (unusable("x" * 4_001) or "")
    assert "too short" in (unusable("of the") or "")
    assert unusable("in part of the") is None


@pytest.mark.parametrize(
    "piece", ["a", "1 ", "a ", "<s>", "~~", "[", "bracket ", "a-\n", "\n", "e\u0301", "\u0336", "1\n2\n", "-5"]
)
def test_no_text_takes_long(piece: str) -> None:
    """A text of one piece, a hundred thousand times, is looked through within the test's time: nothing is quadratic."""
    text = piece * 100_000
    assert find_quote("not in this text at all", text) is None
    find_quote("a a a a a a a a a a a a", text)
    assert len(live_text(text)) <= len(text)
