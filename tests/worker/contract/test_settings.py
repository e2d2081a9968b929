from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from worker.contract.errors import ConfigError
from worker.contract.settings import Settings, load_settings, parse_settings


class Lens(Settings):
    focal_mm: float = Field(default=25.0, gt=0)
    maker: str = "none"


class Station(Settings):
    name: str
    lens: Lens | None = None
    lenses: list[Lens] = Field(default_factory=list)
    by_camera: dict[str, Lens] = Field(default_factory=dict)
    pair: tuple[int, int] = (1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "station.yaml"


def load(path: Path, text: str, *overrides: str) -> Station:
    path.write_text(text, encoding="utf-8")
    return load_settings(path, Station, overrides)


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
        ("name: s1\nzzz: 1", "zzz is unknown; known here: by_camera, lens, lenses, name, pair"),
        ("name: s1\nlens: {focal_m: 8}", "lens.focal_m is unknown; did you mean 'focal_mm'?"),
        ("name: s1\nlenses: [{}, {makr: a}]", "lenses.1.makr is unknown; did you mean 'maker'?"),
        ("name: s1\nby_camera: {top: {makre: a}}", "by_camera.top.makre is unknown; did you mean 'maker'?"),
        ("lens: null", "name is missing; add it"),
        ("name: 5", "name = 5: input should be a valid string"),
        ("name: s1\nlens: {focal_mm: wide}", "lens.focal_mm = 'wide': input should be a valid number"),
        ("name: s1\nlens: {focal_mm: 0}", "lens.focal_mm = 0: input should be greater than 0"),
        ("name: s1\nlens: {focal_mm: .nan}", "lens.focal_mm = nan: input should be"),
        ("name: s1\nlens: {focal_mm: .inf}", "lens.focal_mm = inf: input should be a finite number"),
        ("name: s1\nlens: 25", "lens = 25: input should be a valid dictionary"),
        ("name: s1\npair: [1]", "pair.1 is missing; add it"),
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
        ("name: [1, 2", " line 1 is not valid YAML: "),
        ("name: *nobody", " line 1 is not valid YAML: found undefined alias"),
        ("? [a, b]\n: 1", " line 1 is not valid YAML: found unhashable key"),
        ("name: " + "[" * 5000, " is nested too deeply to be a configuration; correct it"),
        ("name: \0", " is not valid YAML: unacceptable character"),
        ("name: !!python/object/apply:os.system [ls]", " line 1 is not valid YAML: could not determine a constructor"),
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
        ConfigError, match=r"absent\.yaml: cannot be read \(No such file or directory\); check the path"
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
        ("name.first=x", "--set name.first=x: 'name' is a value, not a section"),
        ("pair=[5, 6", "--set pair=[5, 6: the value is not valid YAML; quote it"),
        ("lens.makre=x", "lens.makre is unknown; did you mean 'maker'?"),
        ("lens..maker=x", "lens. is unknown; known here: focal_mm, maker"),
    ],
)
def test_a_wrong_override_is_one_sentence(path: Path, override: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, "name: s1", override)
    assert fault in str(caught.value)


def test_a_document_from_elsewhere_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^bank 12: nam is unknown; did you mean 'name'\?$"):
        parse_settings({"name": "a", "nam": "b"}, Station, "bank 12")
