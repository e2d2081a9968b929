from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import Settings, load_settings, parse_settings


class Lens(Settings):
    focal_mm: float = Field(default=25.0, gt=0)
    maker: str = "none"


class Station(Settings):
    name: str
    lens: Lens | None = None
    lenses: list[Lens] = Field(default_factory=list)
    by_camera: dict[str, Lens] = Field(default_factory=dict)
    pair: tuple[int, int] = (1, 2)
    tags: tuple[str, ...] = Field(default=("a",), min_length=1)
    folder: Path = Path()
    spare: bool = False

    @field_validator("name")
    @classmethod
    def _is_quiet(cls, name: str) -> str:
        if name == "LOUD":
            raise ValueError("LOUD is no name")
        return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "station.yaml"


def load(path: Path, text: str, *overrides: str, **environment: str) -> Station:
    path.write_text(text, encoding="utf-8")
    return load_settings(path, Station, overrides, environment)


def test_a_whole_file(path: Path) -> None:
    station = load(
        path,
        """
name: s1
lens: {focal_mm: 8}
lenses: [{maker: a}, {maker: b}]
by_camera:
  top: {maker: c}
pair: [3, 4]
""",
    )
    assert station == Station(
        name="s1",
        lens=Lens(focal_mm=8.0),
        lenses=[Lens(maker="a"), Lens(maker="b")],
        by_camera={"top": Lens(maker="c")},
        pair=(3, 4),
    )


def test_settings_cannot_be_changed(path: Path) -> None:
    with pytest.raises(Exception, match="frozen"):
        load(path, "name: s1").name = "s2"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nam: s1\nname: s2", "nam is unknown; did you mean 'name'?"),
        ("name: s1\nzzz: 1", "zzz is unknown; known here: by_camera, folder, lens, lenses, name, pair, spare, tags"),
        ("name: s1\nlens: {focal_m: 8}", "lens.focal_m is unknown; did you mean 'focal_mm'?"),
        ("name: s1\nlenses: [{}, {makr: a}]", "lenses.1.makr is unknown; did you mean 'maker'?"),
        ("name: s1\nby_camera: {top: {makre: a}}", "by_camera.top.makre is unknown; did you mean 'maker'?"),
        ("lens: null", "name is missing; add it"),
        ("name: 5", "name = 5: must be text; put it in quotes"),
        ("name: s1\nlens: {focal_mm: wide}", "lens.focal_mm = 'wide': must be a number"),
        ("name: s1\nlens: {focal_mm: 0}", "lens.focal_mm = 0: input should be greater than 0"),
        ("name: s1\nlens: {focal_mm: .nan}", "lens.focal_mm = nan: input should be"),
        ("name: s1\nlens: {focal_mm: .inf}", "lens.focal_mm = inf: input should be a finite number"),
        ("name: s1\nlens: 25", "lens = 25: must be a section (key: value lines)"),
        ("name: s1\nby_camera: [a]", "by_camera = ['a']: must be a section (key: value lines)"),
        ("name: s1\npair: [1]", "pair.1 is missing; add it"),
        ("name: s1\npair: [1, 2, 3]", "pair = [1, 2, 3]: must have at most 2 items"),
        ("name: s1\npair: [1.5, 2]", "pair.0 = 1.5: must be a whole number"),
        ("name: s1\npair: [a, 2]", "pair.0 = 'a': must be a whole number"),
        ("name: s1\nlenses: wide", "lenses = 'wide': must be a list, such as [wide]"),
        ("name: s1\ntags: wide", "tags = 'wide': must be a list, such as [wide]"),
        ("name: s1\ntags: {a: 1}", "tags: must be a list, such as [a, b]"),
        ("name: s1\ntags: []", "tags = []: must not be empty"),
        ("name: s1\ntags: [5]", "tags.0 = 5: must be text; put it in quotes"),
        ("name: s1\nfolder: 5", "folder = 5: must be a path"),
        ("name: s1\nfolder: [a]", "folder = ['a']: must be a path"),
        ("name: s1\nspare: maybe", "spare = 'maybe': must be true or false"),
        ("name: 2024-01-01", "name = 2024-01-01: is a date for YAML; put it in quotes"),
        ("name: 2024-01-01 10:00:00", "name = 2024-01-01 10:00:00: is a date for YAML; put it in quotes"),
        ("name: s1\nlens: {focal_mm: 2024-01-01}", "lens.focal_mm = 2024-01-01: must be a number"),
        ("name: LOUD", "name = 'LOUD': LOUD is no name"),
        ("name: s1\n1: 2", "1 = 1: keys should be strings"),
        ("- name", "must hold 'key: value' lines, but holds a list"),
        ("", "name is missing; add it"),
    ],
)
def test_each_fault_is_a_sentence_that_names_its_key(path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    assert str(caught.value).startswith(f"{path}: {fault}")
    assert "\n" not in str(caught.value)


def test_every_fault_has_its_line(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, "nam: s1\nlens: {focal_mm: -1}")
    assert [line.removeprefix(f"{path}: ").split()[0] for line in str(caught.value).splitlines()] == [
        "name",
        "lens.focal_mm",
        "nam",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: s1\nname: s2", " line 2 is not valid YAML: 'name' is set twice; keep one"),
        ("name: s1\nlens: {maker: a, maker: b}", " line 2 is not valid YAML: 'maker' is set twice; keep one"),
        (
            "lens:\n\tmaker: a",
            r" line 2 is not valid YAML: found character '\t' that cannot start any token; use spaces",
        ),
        ("name: [1, 2", " line 1 is not valid YAML: "),
        ("name: *nobody", " line 1 is not valid YAML: found undefined alias"),
        ("? [a, b]\n: 1", " line 1 is not valid YAML: found unhashable key"),
        ("name: " + "[" * 5000, " is nested too deeply to be a configuration; correct it"),
        ("name: \0", " is not valid YAML: unacceptable character"),
        ("name: !!python/object/apply:os.system [ls]", " line 1 is not valid YAML: could not determine a constructor"),
        ("pair:\n- 2026-13-45", " line 2 is not valid YAML: '2026-13-45' is no value of the type that it looks like"),
        ("name: 0x_", " line 1 is not valid YAML: '0x_' is no value of the type that it looks like; quote it"),
        ("name: !!bool maybe", " line 1 is not valid YAML: 'maybe' is no value of the type that it looks like"),
        ("name: !!timestamp now", " line 1 is not valid YAML: 'now' is no value of the type that it looks like"),
        ("name: " + "1:" * 200 + "1.5", " line 1 is not valid YAML: '1:1:"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    assert str(caught.value).startswith(f"{path}:{fault}")
    assert "\n" not in str(caught.value)


def test_a_merged_key_may_be_overridden(path: Path) -> None:
    text = "name: s1\nlens: &standard {focal_mm: 8, maker: a}\nby_camera: {top: {<<: *standard, maker: b}}"
    assert load(path, text).by_camera["top"] == Lens(focal_mm=8.0, maker="b")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"absent\.yaml: there is no such file; 'quarterturn init' writes a set of settings, or name"
    ):
        load_settings(tmp_path / "absent.yaml", Station)
    (tmp_path / "latin.yaml").write_bytes("name: Prüfstand".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: is not UTF-8 text; save it as UTF-8"):
        load_settings(tmp_path / "latin.yaml", Station)


def test_overrides_are_laid_over_the_file(path: Path) -> None:
    station = load(
        path,
        "name: s1\nlens: {focal_mm: 8, maker: a}\nby_camera:\n",
        "name=s2",
        "lens.focal_mm=16",
        "by_camera.top.maker=x=y",  # into a section that the file leaves empty
        "pair=[5, 6]",
        "lenses=[{maker: z}]",
    )
    assert station.name == "s2"
    assert station.lens == Lens(focal_mm=16.0, maker="a")
    assert station.by_camera == {"top": Lens(maker="x=y")}
    assert station.pair == (5, 6)
    assert station.lenses == [Lens(maker="z")]
    assert load(path, "name: s1\nlens: {focal_mm: 8}", "lens=null").lens is None


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("name", "--set name: write it as key=value, for example"),
        ("=5", "--set =5: write it as key=value, for example"),
        ("name.first=x", "--set name.first: 'name' is a value, not a section"),
        ("pair=[5, 6", "--set pair: the value is not valid YAML; quote it"),
        ("pair=2026-13-45", "--set pair: the value is not valid YAML; quote it"),
        ("lens={maker: a, maker: b}", "--set lens: the value is not valid YAML; quote it"),
        ("lens.makre=x", "--set lens.makre: lens.makre is unknown; did you mean 'maker'?"),
        ("lens..maker=x", "--set lens..maker: lens. is unknown; known here: focal_mm, maker"),
    ],
)
def test_a_wrong_override_is_one_sentence(path: Path, override: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, "name: s1", override)
    assert fault in str(caught.value)


def test_what_is_laid_into_a_section_stays_out_of_its_alias(path: Path) -> None:
    station = load(
        path, "name: s1\nlens: &it {focal_mm: 8}\nby_camera: {top: *it}", "lens.maker=a", "by_camera.low.maker=b"
    )
    assert (station.lens, station.by_camera["top"]) == (Lens(focal_mm=8, maker="a"), Lens(focal_mm=8))


def test_variables_lie_over_the_file_and_under_overrides(path: Path) -> None:
    station = load(
        path,
        "name: s1\nlens: {focal_mm: 8, maker: a}\nby_camera:\n",
        "pair=[7, 8]",
        QUARTERTURN_NAME="s2",
        QUARTERTURN_LENS__FOCAL_MM="16",
        QUARTERTURN_BY_CAMERA__TOP__MAKER="x=y",  # into a section that the file leaves empty
        QUARTERTURN_PAIR="[5, 6]",
        QUARTERTURN_LENSES="[{maker: z}]",
    )
    assert station == Station(
        name="s2",
        lens=Lens(focal_mm=16.0, maker="a"),
        lenses=[Lens(maker="z")],
        by_camera={"top": Lens(maker="x=y")},
        pair=(7, 8),
    )
    assert load(path, "name: s1\nlens: {focal_mm: 8}", QUARTERTURN_LENS="").lens is None


def test_a_sections_variable_lies_under_those_of_its_keys(path: Path) -> None:
    station = load(path, "name: s1", QUARTERTURN_LENS__MAKER="b", QUARTERTURN_LENS="{focal_mm: 8, maker: a}")
    assert station.lens == Lens(focal_mm=8, maker="b")


@pytest.mark.parametrize(
    "name",
    [
        "QUARTERTURN_",
        "QUARTERTURN_STRIKE",
        "QUARTERTURN_PORT_9600_TCP",  # Kubernetes makes such for its services
        "QUARTERTURN_LENS_SERVICE_HOST",
        "QUARTERTURN_HEAD__STEPS",  # another command's
        "QUARTERTURN_NAMELESS",
        "QUARTERTURNNAME",
        "NAME",
        "quarterturn_name",
    ],
)
def test_other_variables_are_left_alone(path: Path, name: str) -> None:
    assert load(path, "name: s1", **{name: "[no YAML"}) == Station(name="s1")


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("NAM", "s2", " is no setting; did you mean 'QUARTERTURN_NAME'?"),
        ("LEN__MAKER", "a", " is no setting; did you mean 'QUARTERTURN_LENS__MAKER'?"),
        ("LENS_FOCAL_MM", "8", " is no setting; did you mean 'QUARTERTURN_LENS__FOCAL_MM'?"),
        ("LENS_FOCAL__MM", "8", " is no setting; did you mean 'QUARTERTURN_LENS__FOCAL_MM'?"),
        ("LENS__MAKRE", "a", ": lens.makre is unknown; did you mean 'maker'?"),
        ("LENS", "{makre: a}", ": lens.makre is unknown; did you mean 'maker'?"),
        ("LENS__FOCAL_MM", "0", ": lens.focal_mm = 0: input should be greater than 0"),
        ("LENS__FOCAL_MM", "", ": lens.focal_mm = None: must be a number"),
        ("LENS", "25", ": lens = 25: must be a section (key: value lines)"),
        ("NAME__FIRST", "x", ": 'name' is a value, not a section"),
        ("PAIR", "[5, 6", ": the value is not valid YAML; quote it"),
        ("PAIR", "2026-13-45", ": the value is not valid YAML; quote it"),
        ("LENSES", "[" * 5000, ": the value is not valid YAML; quote it"),
        ("PAIR", "[5]", ": pair.1 is missing; add it"),
    ],
)
def test_a_wrong_variable_is_one_sentence_that_names_it(path: Path, variable: str, value: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, "name: s1", **{f"QUARTERTURN_{variable}": value})
    assert str(caught.value).startswith(f"QUARTERTURN_{variable}{fault}")
    assert "\n" not in str(caught.value)


def test_a_fault_is_that_of_what_was_written_last(path: Path) -> None:
    def place(*overrides: str, **environment: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, "name: s1\nlens: {focal_mm: -1}", *overrides, **environment)
        return str(caught.value).partition(": ")[0]

    variables = {"QUARTERTURN_LENS": "{focal_mm: -2}", "QUARTERTURN_LENS__FOCAL_MM": "-3"}
    assert place() == str(path)
    assert place(QUARTERTURN_LENS="{focal_mm: -2}") == "QUARTERTURN_LENS"
    assert place(QUARTERTURN_LENS__FOCAL_MM="-3") == "QUARTERTURN_LENS__FOCAL_MM"
    assert place(**variables) == "QUARTERTURN_LENS__FOCAL_MM"
    assert place("lens.focal_mm=-4", **variables) == "--set lens.focal_mm"
    assert place("lens={focal_mm: -4}", **variables) == "--set lens"


def test_a_fault_of_a_section_names_what_is_laid_into_it(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, "name: s1", "lens.size.depth=3", QUARTERTURN_LENS__SIZE__X="1", QUARTERTURN_LENS__SIZE__Y="2")
    laid = "QUARTERTURN_LENS__SIZE__X, QUARTERTURN_LENS__SIZE__Y, --set lens.size.depth"
    assert str(caught.value) == f"{path} with {laid}: lens.size is unknown; known here: focal_mm, maker"


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text().filter(lambda name: name != "LOUD"),
    "lens": st.none() | st.fixed_dictionaries({"maker": st.text()}),
    "lens.focal_mm": st.floats(min_value=1e-300, max_value=1e300) | st.integers(1, 10**9),
    "lens.maker": st.text(),
    "lenses": st.lists(st.fixed_dictionaries({"focal_mm": st.floats(min_value=1, max_value=99)}), max_size=3),
    "by_camera": st.dictionaries(st.text(), st.fixed_dictionaries({"maker": st.text()}), max_size=3),
    "by_camera.top.maker": st.text(),
    "pair": st.tuples(st.integers(), st.integers()).map(list),
}


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "station.yaml"
    path.write_text("name: s1\n", encoding="utf-8")
    return path


@given(chosen=st.sampled_from(sorted(VALUES)).flatmap(lambda key: st.tuples(st.just(key), VALUES[key])))
def test_a_variable_sets_what_the_same_lines_in_the_file_set(station: Path, chosen: tuple[str, Any]) -> None:
    key, value = chosen
    document: Any = value
    for step in reversed(key.split(".")):
        document = {step: document}
    variable = "QUARTERTURN_" + key.upper().replace(".", "__")
    found = load_settings(station, Station, environment={variable: yaml.safe_dump(value, allow_unicode=False)})
    assert found == Station.model_validate({"name": "s1", **document})


@given(
    variable=st.sampled_from(["NAME", "LENS", "LENS__FOCAL_MM", "PAIR", "BY_CAMERA__A"]) | st.text(max_size=30),
    value=st.text() | st.from_regex(r"!!\w+ \S+|[0-9:.xob_-]+|[-+.&*!%{\[]+", fullmatch=True),
)
def test_whatever_is_in_a_variable_ends_in_settings_or_in_sentences_that_name_it(
    station: Path, variable: str, value: str
) -> None:
    said = name = f"QUARTERTURN_{variable}"
    try:
        load_settings(station, Station, environment={name: value})
    except ConfigError as error:
        said = str(error)
    assert name in said


def test_a_document_from_elsewhere_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^bank 12: nam is unknown; did you mean 'name'\?$"):
        parse_settings({"name": "a", "nam": "b"}, Station, "bank 12")


class Row(Settings):
    names: tuple[Annotated[str, Field(min_length=2)], ...] = Field(min_length=2)


@pytest.mark.parametrize(("names", "faults"), [(["ab"], 1), (["ab", ""], 1), (["a", ""], 2), ([], 1)])
def test_a_list_is_too_short_by_itself_or_by_what_is_wrong_in_it(names: list[str], faults: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings({"names": names}, Row, "row.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == faults
    assert all(line.startswith("row.yaml: names") for line in lines)
