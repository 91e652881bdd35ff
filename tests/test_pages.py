"""The reader of documentation pages finds every block."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import Block, blocks, commands

PAGE = """# Title

```sh
spanledger up   # a comment
```

## A heading

1. A list

    ```python title="app.py"
    # heading
    if True:
        print("```")

    print(1)
    ```

````yaml
```
````
"""


def test_blocks_with_headings_languages_titles_and_indentation(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    name = str(page)
    assert list(blocks(page)) == [
        Block(name, 3, "Title", "sh", "", "spanledger up   # a comment\n"),
        Block(name, 11, "A heading", "python", "app.py", '# heading\nif True:\n    print("```")\n\nprint(1)\n'),
        Block(name, 19, "A heading", "yaml", "", "```\n"),
    ]


def test_a_block_that_is_not_closed_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nspanledger up\n")
    with pytest.raises(ValueError, match=r"page\.md:1: the block is not closed"):
        list(blocks(page))


def test_the_blocks_of_a_real_page() -> None:
    found = list(blocks("docs/getting-started.md"))
    assert found[0].text == "make demo\n"
    assert [each.language for each in found if "attribute(" in each.text] == ["python"]


def test_commands() -> None:
    assert commands("a b \\\n  c  # why\n\n# nothing\nd '#e'\n") == ["a b   c", "d '#e'"]
    assert commands('a "\nb\nc"\nd') == ['a "\nb\nc"', "d"]
    assert commands("$ a\noutput\n$ b\n") == ["a", "b"]
