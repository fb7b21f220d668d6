"""Config files: their shapes, their lines, and what is said where one is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.config import Configs, Sync, from_body, read_dir, read_file
from nango_dagster.config.document import read_json, read_yaml
from nango_dagster.errors import ConfigError
from tests.conftest import ROOT

URL = "https://api.example.com/items"


def read(tmp_path: Path, text: str, name: str = "items.yaml") -> list[Sync]:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_file(file)


def wrong(tmp_path: Path, text: str, name: str = "items.yaml") -> list[str]:
    """The errors of a broken file, each after the number of its line."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, name)
    assert all(problem.file == str(tmp_path / name) for problem in caught.value.problems)
    return [f"{problem.line}: {problem.sentence}" for problem in caught.value.problems]


def folder(tmp_path: Path, **files: str) -> Configs:
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        (tmp_path / f"{stem}.{ending}").write_text(text, encoding="utf-8")
    return read_dir(tmp_path)


def test_a_file_holds_one_sync_that_is_called_like_it(tmp_path: Path) -> None:
    (sync,) = read(tmp_path, f"url: {URL}\nunique_key: id\n", "github-issues.yml")
    assert (sync.name, sync.model, sync.unique_key) == ("github-issues", "GithubIssues", "id")
    (sync,) = read(tmp_path, f"url: {URL}\nname: other\n", "github-issues.yml")
    assert sync.name == "other"


def test_a_file_may_hold_a_list_of_syncs_that_share_defaults(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        f"""
        defaults:
          headers: {{Authorization: "Bearer ${{env.TOKEN}}", Accept: text/plain}}
          frequency: 5
          paging_url_path: next
          metadata: {{team: a}}
        syncs:
          - name: one
            url: {URL}
            headers: {{accept: application/json, Accept: application/json}}
          - friendly_name: Number two
            url: {URL}
            cron: "0 6 * * *"
            paging_header_link_rel: next
            metadata: {{team: b, more: 1}}
        """,
    )
    assert (first.name, first.frequency, first.paging_url_path) == ("one", 5, "next")
    assert first.headers["Authorization"] == "Bearer ${env.TOKEN}"
    assert first.headers["Accept"] == "application/json"
    assert (second.name, second.frequency, second.cron) == ("number-two", None, "0 6 * * *")
    assert (second.paging_url_path, second.paging_header_link_rel) == (None, "next")
    assert second.metadata == {"team": "b", "more": 1}


@pytest.mark.parametrize("around", ["syncs:\n  one: {sync}\n  two: {sync}\n", "one: {sync}\ntwo: {sync}\n"])
def test_a_file_may_hold_syncs_by_their_names(tmp_path: Path, around: str) -> None:
    text = "defaults: {frequency: 5}\n" + around.replace("{sync}", f"{{url: '{URL}'}}")
    syncs = read(tmp_path, text)
    assert [(sync.name, sync.frequency) for sync in syncs] == [("one", 5), ("two", 5)]


def test_null_in_a_sync_puts_a_default_aside(tmp_path: Path) -> None:
    (sync,) = read(tmp_path, f"defaults: {{frequency: 5}}\nsyncs: {{a: {{url: '{URL}', frequency: null}}}}\n")
    assert sync.frequency is None


def test_json_is_read_and_may_name_its_schema(tmp_path: Path) -> None:
    body = {"$schema": "../docs/reference/sync.schema.json", "url": URL, "headers": {"X": 1.5}, "body": {"é": "😀\n"}}
    (sync,) = read(tmp_path, json.dumps(body, indent="\t"), "items.json")
    assert (sync.headers, sync.body) == ({"X": "1.5"}, {"é": "😀\n"})


def test_yaml_is_read_as_yaml_1_2_does(tmp_path: Path) -> None:
    (sync,) = read(
        tmp_path,
        f"""
        url: {URL}
        headers: {{X-On: on, X-No: no, X-Date: 2024-01-01, X-Version: 1.10, X-True: true, X-Zip: 007}}
        query_params: {{since: 2024-01-01T00:00:00Z, version: 1.10, flags: [yes, 1_000, 0x10, 1e3, ~x]}}
        body: {{on: no, date: 2024-01-01, zip: 007, n: 10, f: 1.50, e: 1e3, t: true, nothing: null, sexagesimal: 1:30}}
        metadata: {{since: 2024-01-01, headers: {{n: 1}}}}
        description: no
        """,
    )
    assert sync.headers == {
        "X-On": "on",
        "X-No": "no",
        "X-Date": "2024-01-01",
        "X-Version": "1.10",
        "X-True": "true",
        "X-Zip": "007",
    }
    assert sync.query_params == {
        "since": "2024-01-01T00:00:00Z",
        "version": "1.10",
        "flags": ["yes", "1_000", "0x10", "1e3", "~x"],
    }
    assert sync.body == {
        "on": "no",
        "date": "2024-01-01",
        "zip": "007",
        "n": 10,
        "f": 1.5,
        "e": 1000.0,
        "t": True,
        "nothing": None,
        "sexagesimal": "1:30",
    }
    assert sync.metadata == {"since": "2024-01-01", "headers": {"n": 1}}
    assert sync.description == "no"


def test_headers_stay_as_written_in_every_shape_of_file(tmp_path: Path) -> None:
    (sync,) = read(tmp_path, f"defaults: {{headers: {{A: 1.10}}}}\nx: {{url: '{URL}', headers: {{B: 2.20}}}}\n")
    assert sync.headers == {"A": "1.10", "B": "2.20"}
    (sync,) = read(tmp_path, f"syncs: [{{name: x, url: '{URL}', query_params: {{B: 2.20}}}}]\n")
    assert sync.query_params == {"B": "2.20"}


def test_anchors_and_merge_keys_are_followed(tmp_path: Path) -> None:
    text = f"""
    defaults: {{}}
    syncs:
      one: &one {{url: "{URL}", frequency: 5, retries: 1}}
      two: {{<<: *one, retries: 2}}
      three: {{<<: [{{retries: 7}}, *one]}}
    """
    assert [(sync.frequency, sync.retries) for sync in read(tmp_path, text)] == [(5, 1), (5, 2), (5, 7)]


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    text = f"""\
url: {URL}
nme: x
headers:
  Accept: text/plain
  Bad Name: x
rate_limit:
  requests: 0
  per: minute
owners:
  - a@example.com
  - bob
frequency: soon
"""
    assert wrong(tmp_path, text) == [
        '2: "nme" is no field of a sync; did you mean name?',
        "3: headers cannot be used; wanted names of letters, digits and - such as X-Api-Key, not 'Bad Name'.",
        "7: rate_limit.requests is 0; wanted a whole number of at least 1.",
        '11: owners[1] is "bob"; wanted an email address or team:name.',
        '12: frequency is "soon"; wanted a number of minutes, or text such as "every 15 minutes", '
        '"every hour" or "every 30 seconds".',
    ]


def test_problems_of_json_have_their_lines_too(tmp_path: Path) -> None:
    text = json.dumps({"url": URL, "body": {"a": [1, {"x": "\u20ac"}]}, "max_pages": 0}, indent="\t")
    assert wrong(tmp_path, text, "items.json") == ["11: max_pages is 0; wanted a whole number of at least 1."]


def test_a_problem_in_the_defaults_is_told_once(tmp_path: Path) -> None:
    text = f"defaults: {{retries: many}}\nsyncs: {{one: {{url: '{URL}'}}, two: {{url: '{URL}'}}}}\n"
    assert wrong(tmp_path, text) == ['1: retries is "many"; wanted a whole number from 0 to 100.']


def test_a_problem_in_the_defaults_has_the_line_there(tmp_path: Path) -> None:
    text = f"defaults:\n  retries: many\nsyncs:\n  one:\n    url: {URL}\n    max_pages: 0\n"
    assert [sentence[:9] for sentence in wrong(tmp_path, text)] == ["2: retrie", "6: max_pa"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "None: the file is empty; wanted one sync (with url:), or several under syncs:."),
        ("# only this\n", "None: the file holds nothing but comments; wanted one sync"),
        (f"- url: {URL}\n", "None: the file holds a list; wanted one sync (with url:), or several"),
        ("text\n", "None: the file holds a single value; wanted one sync"),
        (f"url: {URL}\nretries: 1\nretries: 2\n", "3: retries stands here again; it is already on line 2."),
        (f"url: {URL}\n---\nurl: {URL}\n", "2: a second YAML document begins here"),
        (f"url: {URL}\n  bad: indent\n", "2: this is no YAML: mapping values are not allowed here."),
        (f"url: {URL}\n\tbad: tab\n", "2: this is no YAML: found character '\\t'"),
        (f"url: {URL}\nbody: [1, 2\n", "3: this is no YAML: "),
        (f"url: {URL}\nbody: *nowhere\n", "2: this is no YAML: found undefined alias"),
        (f"url: {URL}\nbody: &a [*a]\n", "2: an alias (*) is used in a way that makes the file too large."),
        (f"url: {URL}\nbody: !!python/name:os.system x\n", "2: the tag 'tag:yaml.org,2002:python/name:os.system'"),
        (f"url: {URL}\nbody: !!int x\n", "2: 'x' does not fit its tag."),
        (f"url: {URL}\nbody: {{[a]: b}}\n", "2: a key is an object or a list; wanted text."),
        (f"url: {URL}\n<<: text\n", "2: << brings in fields; wanted an object"),
        (f'url: {URL}\nbody: {{x: "\\uD8"}}\n', "2: this is no YAML: expected escape sequence of 4 hex"),
        (f'url: {URL}\nbody: {{x: "\\UFFFFFFFF"}}\n', "None: this YAML cannot be used"),
        (f"url: {URL}\nbody: \x07\n", "None: this is no YAML: unacceptable character #x0007"),
        (f"url: {URL}\nbody: " + "[" * 2000, "None: this YAML cannot be used: it is nested too deeply"),
        (f"syncs: [{{url: '{URL}'}}]\n", "1: name is missing; in a list every sync needs one."),
        (f"syncs: []\nurl: {URL}\n", "2: url stands beside syncs; wanted defaults and syncs only"),
        ("syncs: text\n", "1: syncs is no list; wanted a list of syncs."),
        ("syncs: [text]\n", "1: a sync is no object; wanted its fields, such as url."),
        (f"defaults: 5\nx: {{url: '{URL}'}}\n", "1: defaults is no object; wanted the fields that the syncs"),
        ("unique_key: id\n", "1: url is missing; wanted a URL, such as https://api.example.com/items."),
    ],
)
def test_a_broken_yaml_file_is_answered_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    sentences = wrong(tmp_path, text)
    assert len(sentences) == 1
    assert sentences[0].startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"url" 1\n}', "2: this is no JSON: Expecting ':' delimiter."),
        ('{"url": "x", "url": "y"}', "None: this JSON cannot be used: 'url' stands twice in one object."),
        ('{"url": NaN}', "None: this JSON cannot be used: NaN is no number in JSON."),
        ("[" * 100_000, "None: this JSON cannot be used: "),
        ("[]", "None: the file holds a list; "),
    ],
)
def test_a_broken_json_file_is_answered_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    (sentence,) = wrong(tmp_path, text, "items.json")
    assert sentence.startswith(said)


def test_aliases_that_multiply_are_stopped(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "makes the file too large" in wrong(tmp_path, "\n".join(lines))[0]


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(f"url: {URL}/\xe4".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.yaml: the file is not UTF-8 text; save it as UTF-8\."):
        read_file(tmp_path / "a.yaml")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(f"url: {URL}\r\nretries: 1\r\n".encode("utf-8-sig"))
    assert read_file(tmp_path / "a.yaml")[0].retries == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml: the file cannot be read: No such file or directory\."):
        read_file(tmp_path / "a.yaml")


def test_a_folder_is_read_with_the_folders_inside_it(tmp_path: Path) -> None:
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "contacts.json").write_text(json.dumps({"url": URL}))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.yaml").write_text("broken: [")
    configs = folder(tmp_path, b_yaml=f"url: {URL}\n", a_yml=f"url: {URL}\n", readme_md="# no config\n")
    assert configs.errors == ()
    assert [sync.name for sync in configs.syncs] == ["a", "b", "contacts"]


def test_a_broken_file_hides_no_other(tmp_path: Path) -> None:
    configs = folder(
        tmp_path,
        a_yaml="url: [",
        b_yaml=f"url: {URL}\nnme: x\n",
        c_yaml=f"url: {URL}\n",
        d_yaml=f"good: {{url: '{URL}'}}\nbad: {{url: '{URL}', retries: x}}\n",
    )
    assert [sync.name for sync in configs.syncs] == ["c", "good"]
    assert [Path(error.problems[0].file or "").name for error in configs.errors] == ["a.yaml", "b.yaml", "d.yaml"]


def test_a_name_or_model_that_is_taken_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    configs = folder(
        tmp_path,
        a_yaml=f"url: {URL}\n",
        b_yaml=f"url: {URL}\nname: a\n",
        c_yaml=f"# first\nurl: {URL}\nmodel: Contact\n",
        d_yaml=f"url: {URL}\nmodel: Contact\n",
    )
    assert [sync.name for sync in configs.syncs] == ["a", "c"]
    by_name, by_model = (str(error) for error in configs.errors)
    assert by_name.endswith("a.yaml:1; wanted another name.") and "b.yaml:2:1: the name a is taken" in by_name
    assert by_model.endswith("c.yaml:2; wanted another model.")
    assert "d.yaml:2:1: the model Contact is taken by the sync c in " in by_model


def test_a_name_that_is_taken_in_the_same_file_is_an_error(tmp_path: Path) -> None:
    text = f"syncs:\n  - {{name: a, url: '{URL}'}}\n  - {{name: a, url: '{URL}'}}\n"
    (sentence,) = wrong(tmp_path, text)
    assert sentence.startswith("3: the name a is taken by the sync a in ")


def test_a_name_that_dagster_cannot_tell_from_another_is_an_error(tmp_path: Path) -> None:
    configs = folder(tmp_path, a_yaml=f"name: a-b\nurl: {URL}\n", b_yaml=f"url: {URL}\nname: a_b\n")
    assert [sync.name for sync in configs.syncs] == ["a-b"]
    (error,) = configs.errors
    assert "b.yaml:2:1: the name a_b is taken by the sync a-b in " in str(error)
    assert str(error).endswith("a.yaml:1 and Dagster cannot tell them apart; wanted another name.")


@pytest.mark.parametrize("name", ["input", "class", "None"])
def test_a_name_that_dagster_does_not_take_is_an_error(tmp_path: Path, name: str) -> None:
    (sentence,) = wrong(tmp_path, f"url: {URL}\nname: '{name}'\n")
    assert sentence == f"2: {name} is a word that Python and Dagster keep for themselves; wanted another name."
    with pytest.raises(ConfigError, match=f"^{name} is a word that "):
        from_body({"url": URL, "name": name})


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    configs = read_dir(tmp_path / "none")
    assert configs.syncs == ()
    assert str(configs.errors[0]) == f"{tmp_path}/none is no folder; `nango-dagster init` makes one with a first sync."
    assert read_dir(tmp_path) == Configs((), ())


def test_a_python_file_without_a_script_is_a_helper(tmp_path: Path) -> None:
    configs = folder(
        tmp_path,
        a_yaml=f"url: {URL}\ntransform: cleaning:clean\n",
        cleaning_py="def clean(record): return record\n",
        helper_py="raise SystemExit('a helper is not loaded')\n",
    )
    assert [sync.transform for sync in configs.syncs] == ["cleaning:clean"]
    assert not configs.errors


# Properties

PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), PLAIN, max_size=4), st.booleans())
def test_a_json_file_and_a_post_body_make_the_same_sync(body: dict[str, Any], indented: bool) -> None:

    text = json.dumps({"url": URL, "body": body}, indent="\t" if indented else None)
    document = read_json(text, "a.json")
    assert from_body(document.value) == from_body(json.loads(text))
    assert document.marks[("url",)].line == (2 if indented else 1)


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#,? \n\t<~\\\x00\u2028é1.") | st.characters(), max_size=40))
def test_any_text_is_a_file_or_a_config_error(text: str) -> None:

    parsers: list[Callable[[], object]] = [
        lambda: read_yaml(text, "a.yaml", lambda place: False),
        lambda: read_json(text, "a.json"),
    ]
    for parse in parsers:
        try:
            parse()
        except ConfigError as error:
            assert error.problems[0].file


def test_a_wrong_rule_is_found_at_its_line_and_column(tmp_path: Path) -> None:
    text = f"url: {URL}\nresponses:\n  - {{status: 404, action: end}}\n  - {{path: error, equals: x, action: stop}}\n"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).endswith(
        'items.yaml:4:30: responses[1].action is "stop"; wanted one of list, empty, end, skip, retry, '
        "refresh_credentials, fail."
    )


@pytest.mark.parametrize(
    "text",
    [
        *(file.read_text(encoding="utf-8") for file in sorted((ROOT / "examples").rglob("*.yaml"))),
        "a: 'é😀x'\n😀: [1, 😀b, {c: 2}]\nd: &x {e: no}\nf: *x\ng: |\n  text\nh: 010\ni: ~\nj:\n",
        "\ufeffa: 1\n",
        "# nothing\n",
    ],
)
def test_both_yaml_loaders_read_the_same_values_at_the_same_places(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read_yaml(text, "a.yaml", lambda place: False)
    monkeypatch.setattr("nango_dagster.config.document._FastLoader", None)
    assert read_yaml(text, "a.yaml", lambda place: False) == fast
