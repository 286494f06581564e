"""Makes and checks the pages in docs/: those generated from code and tests, and the links of all Markdown files."""
