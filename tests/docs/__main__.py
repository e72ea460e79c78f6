"""`make docs`: write the generated pages."""

from tests.docs.pages import DOCS, generated_pages

for name, text in generated_pages().items():
    (DOCS / name).write_text(text)
