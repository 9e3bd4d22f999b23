"""The config file as the SDK and the command line use it."""

from __future__ import annotations

import tomllib

import pytest

from outhaul import profiles
from outhaul.errors import Invalid, NotFound
from outhaul.profiles import Profile

TOKEN = 'outhaul_A"b\\c~%'
HOME = "https://outhaul.example.com"


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    for name in ("CONFIG", "PROFILE", "URL", "TOKEN"):
        monkeypatch.delenv(f"OUTHAUL_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "outhaul" / "config.toml"


def test_where_the_file_is(file, monkeypatch, tmp_path):
    assert profiles.path() == file
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CONFIG_HOME", ignored)
        assert profiles.path() == tmp_path / ".config" / "outhaul" / "config.toml"
    monkeypatch.setenv("OUTHAUL_CONFIG", "~/mine.toml")
    assert profiles.path() == tmp_path / "mine.toml"


def test_a_profile_is_kept_whatever_its_token_looks_like(file):
    profiles.save(Profile("default", f"{HOME}/", TOKEN))
    profiles.save(Profile("test", "http://127.0.0.1:8080/base", "t"))
    assert profiles.load() == Profile("default", HOME, TOKEN)
    assert profiles.load("test") == Profile("test", "http://127.0.0.1:8080/base", "t")
    assert profiles.names() == ["default", "test"]
    assert tomllib.loads(file.read_text())["profiles"]["default"]["token"] == TOKEN
    profiles.remove("default")
    assert profiles.names() == ["test"]
    assert profiles.load() == Profile("default", "", "")


def test_only_the_owner_may_read_it(file):
    profiles.save(Profile("default", HOME, TOKEN))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    file.chmod(0o644)
    profiles.save(Profile("default", HOME, TOKEN))
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]
    assert TOKEN not in repr(profiles.load())


def test_the_environment_wins(monkeypatch):
    profiles.save(Profile("default", HOME, TOKEN))
    profiles.save(Profile("test", "http://127.0.0.1:8080", "other"))
    monkeypatch.setenv("OUTHAUL_PROFILE", "test")
    assert profiles.load().token == "other"
    assert profiles.load("default").token == TOKEN
    monkeypatch.setenv("OUTHAUL_TOKEN", "from-outside")
    assert profiles.load() == Profile("test", "http://127.0.0.1:8080", "from-outside")
    monkeypatch.setenv("OUTHAUL_URL", "https://elsewhere.example")
    assert profiles.load() == Profile("test", "https://elsewhere.example", "from-outside")
    assert profiles.load(url="https://third.example").url == "https://third.example"


def test_no_server_is_shown_the_token_of_another(monkeypatch):
    profiles.save(Profile("default", HOME, TOKEN))
    assert profiles.load(url=f"{HOME}/").token == TOKEN
    assert profiles.load(url="https://elsewhere.example").token == ""
    monkeypatch.setenv("OUTHAUL_URL", "https://elsewhere.example")
    assert profiles.load().token == ""


def test_a_profile_that_is_not_there(monkeypatch):
    for ask in (profiles.load, profiles.saved, profiles.remove):
        with pytest.raises(NotFound, match="no profile 'typo'"):
            ask("typo")
    monkeypatch.setenv("OUTHAUL_PROFILE", "typo")
    with pytest.raises(NotFound):
        profiles.load()


@pytest.mark.parametrize(
    "profile",
    [
        Profile("a b", HOME, TOKEN),
        Profile("", HOME, TOKEN),
        Profile("x", "ftp://host", TOKEN),
        Profile("x", "https://", TOKEN),
        Profile("x", "https://user:s3cret@host", TOKEN),
        Profile("x", "https://host?sig=s3cret", TOKEN),
        Profile("x", "https://host:port", TOKEN),
        Profile("x", "https://host\n[profiles.y]", TOKEN),
        Profile("x", HOME, ""),
        Profile("x", HOME, "s3cret\nline"),
        Profile("x", HOME, "s3cr\u00e9t"),
    ],
)
def test_what_cannot_be_kept(file, profile):
    with pytest.raises(Invalid) as refused:
        profiles.save(profile)
    assert "s3c" not in str(refused.value)
    assert not file.exists()


@pytest.mark.parametrize(
    "text", ["profiles = 's3cret'", "[profiles.default]\nurl = 1", "s3cret", "token = '"]
)
def test_a_file_that_cannot_be_understood(file, text):
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(Invalid, match="cannot be understood") as refused:
        profiles.load()
    assert "s3cret" not in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("text", [HOME, f" {HOME}/\n", f"{HOME}/api/v1", f"{HOME}/api/v1/"])
def test_the_address_of_the_api_is_as_good_as_the_base_url(text):
    profiles.save(Profile("default", text, f"{TOKEN}\n"))
    assert profiles.load() == Profile("default", HOME, TOKEN)


def test_what_is_not_known_in_the_file_is_no_error(file):
    file.parent.mkdir(parents=True)
    file.write_text('later = true\n[profiles.default]\nurl = "https://host/"\ntoken = "t"\ncolour = 1\n')
    assert profiles.load() == Profile("default", "https://host", "t")
