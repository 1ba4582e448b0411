"""The part of Go's text/template that is understood, and what is said of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.publisher.template import MissingValueError, TemplateError, parse

VALUES = {"service": "backend", "version": "v1", "port": "8080", "empty": ""}

RENDERED = [
    ("", ""),
    ("plain.mesh", "plain.mesh"),
    ("{{.service}}.mesh", "backend.mesh"),
    ("{{ .service }}.{{\t.version\n}}.mesh", "backend.v1.mesh"),
    ("{{if .port}}{{.port}}{{else}}80{{end}}", "8080"),
    ("{{if .missing}}{{.missing}}{{else}}80{{end}}", "80"),
    ("{{if .empty}}a{{else}}b{{end}}", "b"),
    ("{{if .missing}}a{{end}}", ""),
    ("{{if .missing}}a{{else if .version}}b{{else}}c{{end}}d", "bd"),
    ("{{if .missing}}a{{else if .empty}}b{{else}}c{{end}}d", "cd"),
    ("{{if .port}}{{if .version}}x{{else}}y{{end}}{{else}}z{{end}}", "x"),
    ("{{if .missing}}{{if .version}}x{{end}}{{else}}z{{end}}", "z"),
    ("a {{- .service -}} b", "abackendb"),
    ("a \n{{- .service}} b", "abackend b"),
    ("a {{.service -}}\n\t b", "a backendb"),
    ("a{{/* a remark */}}b", "ab"),
    ("a {{- /* a }} remark */ -}} b", "ab"),
    ("{{.service}} {{- /**/}}x", "backendx"),
    ("}} { {.service}", "}} { {.service}"),
    ("{{ if .port }}{{ .port }}{{ else }}80{{ end }}", "8080"),
]


@pytest.mark.parametrize(("text", "expected"), RENDERED)
def test_a_template_gives_what_go_would_give(text: str, expected: str) -> None:
    assert parse(text).render(VALUES) == expected


REFUSED = [
    ("{{.service", "{{ without }}", 1),
    ("a.{{ }}.b", "holds nothing", 3),
    ("{{service}}", "only {{.name}} and {{if .name}}", 1),
    ("{{.a.b}}", "only {{.name}}", 1),
    ("{{$x := .service}}", "only {{.name}}", 1),
    ("{{.service | len}}", "only {{.name}}", 1),
    ('{{printf "%s" .service}}', "only {{.name}}", 1),
    ('{{if eq .port "80"}}a{{end}}', "only {{.name}}", 1),
    ("{{range .service}}{{end}}", "only {{.name}}", 1),
    ("{{if .port}}80", "without {{end}}", 1),
    ("{{if .port}}80{{else}}8080", "without {{end}}", 1),
    ("{{if}}80{{end}}", "{{if}} without a name", 1),
    ("80{{end}}", "{{end}} without an {{if}}", 3),
    ("80{{else}}", "{{else}} without an {{if}}", 3),
    ("{{if .a}}{{else}}{{else}}{{end}}", "{{else}} after {{else}}", 18),
    ("{{if .a}}{{elsewhere}}{{end}}", "only {{.name}}", 10),
    ("{{if .a}}{{ending}}", "only {{.name}}", 10),
    ("x{{/* no end", "does not end", 2),
    ("x{{/* a */ .b}}", "alone in its {{ }}", 2),
    ("{{.service}}-{{-3}}", "only {{.name}}", 14),
    ("{{if .a}}" * 17 + "{{end}}" * 17, "nested deeper than 16", 145),
    ("x" * 5000, "longer than 4096", 0),
]


@pytest.mark.parametrize(("text", "problem", "position"), REFUSED)
def test_what_is_not_understood_is_refused_with_its_place(text: str, problem: str, position: int) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert problem in str(caught.value)
    assert caught.value.position == position


def test_a_name_without_a_value_is_an_error_with_its_place() -> None:
    with pytest.raises(MissingValueError) as caught:
        parse("{{.service}}.{{.zone}}.mesh").render(VALUES)
    assert (caught.value.name, caught.value.position) == ("zone", 14)


def test_a_template_tells_every_name_that_it_uses() -> None:
    assert parse("{{.a}}{{if .b}}{{.c}}{{else if .d}}{{.a}}{{end}}").fields == ("a", "b", "c", "d")


@given(st.lists(st.sampled_from(["{{", "}}", "if", "else", "end", ".a", " ", "-", "/*", "*/", "x", "{"]), max_size=12))
def test_any_text_is_parsed_or_refused(parts: list[str]) -> None:
    try:
        template = parse("".join(parts))
    except TemplateError:
        return
    assert "<no value>" not in template.render(dict.fromkeys(template.fields, "1"))


@given(st.text(alphabet=st.characters(exclude_characters="{}"), max_size=40), st.text(max_size=10))
def test_text_around_a_value_is_kept(around: str, value: str) -> None:
    assert parse(f"{around}{{{{.a}}}}{around}").render({"a": value}) == around + value + around
