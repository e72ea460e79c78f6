"""What leaves through the door to the terminal: in any width, whatever was written by whom."""

import csv
import io
import json
import logging
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.cli import console
from llm_common.cli.console import Console, escape, write_json
from llm_common.cli.tables import Column, show_table, write_csv
from tests.support.terminal import commands_in, without_styles

ANY = st.text(st.characters(exclude_categories=[]), max_size=60)
COLUMNS = (Column("run"), Column("bill", fold=True), Column("cost", number=True), Column("by", optional=True))
WORDS = st.text(st.characters(categories=["L", "N"], include_characters=" -"), min_size=1, max_size=40)
ROWS = st.lists(st.tuples(st.just("24b0a843"), WORDS, st.just("$0.008300"), WORDS), min_size=1, max_size=4)


def shown(monkeypatch: pytest.MonkeyPatch, width: int, rows, columns=COLUMNS) -> str:
    out = io.StringIO()
    monkeypatch.setattr("llm_common.cli.tables.results", Console(file=out, force_terminal=True, width=width))
    show_table(columns, rows)
    return without_styles(out.getvalue())


@given(rows=st.lists(st.tuples(ANY, ANY, ANY, ANY), max_size=3), width=st.sampled_from([20, 40, 80, 160]))
def test_no_cell_commands_the_terminal(rows, width):
    """In a table and in records, whatever is in a cell."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert commands_in(shown(monkeypatch, width, rows)) == []


@given(rows=ROWS, width=st.sampled_from([40, 80, 160]))
def test_nothing_is_cut_off(rows, width):
    """Ids and money stand whole on a line at any width, texts are there to their last letter, and no line is longer."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        text = shown(monkeypatch, width, rows)
    assert text.count("24b0a843") == text.count("$0.008300") == len(rows)
    letters = "".join(text.split())
    assert all(set("".join(bill.split())) <= set(letters) for _, bill, _, _ in rows)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_gets_records(monkeypatch):
    """One value a line, with its name, where a table does not fit."""
    columns = [Column("model"), *(Column(name, number=True) for name in ("cost", "calls", "tokens"))]
    rows = [("zai/glm-5.3-flash", "$0.000410", "12", "1,793"), ("zai/glm-5.3", "$1.25", "3", "90")]
    lines = [line.split() for line in shown(monkeypatch, 30, rows, columns).splitlines()]
    assert lines[:4] == [["model", "zai/glm-5.3-flash"], ["cost", "$0.000410"], ["calls", "12"], ["tokens", "1,793"]]
    assert lines[4] == []


@given(text=ANY)
def test_every_way_out_is_the_same_door(text):
    """Printed, in a status line, as JSON, as CSV and in a log: never a command."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        console.notes.print(escape(text))
        console.notes.print(text, markup=False)
        console.results.rule(escape(text))
        write_json({text: text})
        write_csv([text], [[text]])
        write_csv([text], [[text]], raw=True)
        console.LogHandler().handle(logging.LogRecord("x", logging.WARNING, "", 0, "%s", (text,), None))
    assert commands_in(out.getvalue()) == []


@given(text=ANY)
def test_json_is_read_as_it_was(text):
    """Escapes are JSON's own."""
    out = io.StringIO()
    with redirect_stdout(out):
        write_json({"text": text})
    assert json.loads(out.getvalue()) == {"text": text}


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", " =", "\uff1d", "\uff0b", "\r=", "\n="])
def test_a_spreadsheet_runs_nothing(begin):
    """A text that would be a formula has an apostrophe before it; a program can have it raw."""
    out, raw = io.StringIO(), io.StringIO()
    with redirect_stdout(out):
        write_csv(["a", "b"], [[f'{begin}HYPERLINK("http://x")', -5]])
    with redirect_stdout(raw):
        write_csv(["a", "b"], [[f'{begin}HYPERLINK("http://x")', -5]], raw=True)
    (cell, number) = list(csv.reader(io.StringIO(out.getvalue())))[1]
    assert cell.startswith("'")
    assert number == "-5"
    assert not list(csv.reader(io.StringIO(raw.getvalue())))[1][0].startswith("'")


@given(text=ANY)
def test_no_cell_begins_a_formula(text):
    """Whatever it is, spaces before it included."""
    out = io.StringIO()
    with redirect_stdout(out):
        write_csv(["a"], [[text]])
    rows = list(csv.reader(io.StringIO(out.getvalue())))
    cell = rows[1][0] if len(rows) > 1 and rows[1] else ""
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


def test_a_log_line_has_no_secret(monkeypatch):
    """Warnings of any library go out by the same door."""
    monkeypatch.setenv("SOME_API_KEY", "a-key-without-a-shape")
    out = io.StringIO()
    with redirect_stderr(out):
        record = logging.LogRecord("x", logging.WARNING, "", 0, "refused %s", ("a-key-without-a-shape",), None)
        console.LogHandler().handle(record)
    assert out.getvalue() == "WARNING: refused [redacted]\n"
