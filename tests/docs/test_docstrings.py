"""The docstrings of the library's public classes have one form, since a page is made of them."""

from __future__ import annotations

import pytest

from corral_docs import api

VERBS = {
    *(
        "Change",
        "Close",
        "Copy",
        "Create",
        "Delete",
        "End",
        "Free",
        "Freeze",
        "Give",
        "Keep",
        "Kill",
        "Let",
        "Push",
        "Remove",
        "Return",
        "Run",
    ),
    *("Send", "Set", "Start", "Write", "Yield"),
}
EVERY = [*api.CLASSES, *api.WITHOUT_AWAIT]


@pytest.mark.parametrize("shown", EVERY, ids=lambda shown: f"{shown.file}:{shown.name}")
def test_every_public_method_says_first_what_it_does(shown: api.Shown) -> None:
    for name, method in api.methods(shown).items():
        if (shown.name, name) in {("Event", "guest"), ("Event", "kind"), ("Mapped", "ok")}:
            continue  # a field of another class under a shorter name
        text = api.documentation(method)
        assert text.partition(" ")[0] in VERBS, f"{shown.name}.{name}: {text[:60]!r}"


def test_what_has_no_await_says_the_same_as_what_has() -> None:
    faces = {shown.name: api.methods(shown) for shown in api.WITHOUT_AWAIT}
    faces["AsyncClient"] = faces.pop("Client")
    for shown in api.CLASSES:
        for name, method in api.methods(shown).items():
            face = faces.get(shown.name, {}).get(name)
            if face is not None and name != "close":  # that of a client without await ends a thread too
                first = " ".join(api.documentation(method).partition("\n\n")[0].split())
                assert " ".join(api.documentation(face).split()).startswith(first), f"{shown.name}.{name}"


def test_the_page_has_every_class_and_no_private_name() -> None:
    text = api.page()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [shown.name for shown in api.CLASSES]
    assert "._" not in text
    assert "self" not in text.split()
