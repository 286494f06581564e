"""Key directories in which somebody keeps files as links."""

from pathlib import Path

from corral.cli.keys import key_directory
from corral_schemas import keyfiles


def test_a_key_kept_as_a_link_is_rotated_and_revoked_and_what_it_leads_to_stays_readable(tmp_path: Path) -> None:
    keys, kept = tmp_path / "keys", tmp_path / "kept"
    kept.mkdir()
    key_directory.make_broker_key(keys)
    public = keys / keyfiles.BROKER_PUBLIC
    public.rename(kept / "broker.pub")
    public.symlink_to("../kept/broker.pub")
    pair = key_directory.make_key_file(tmp_path / "ann.key", "ann")
    made = key_directory.accept(keys, pair.public, name="ann", role="operator", guest="")
    made.rename(made.with_name("ann-kept.toml"))
    made.symlink_to("ann-kept.toml")  # two names of one key
    key_directory.rotate(keys, "ann", tmp_path / "ann-2.key", keep_s=60)
    assert made.is_symlink() and 'expires = "2' in made.with_name("ann-kept.toml").read_text()
    moved = key_directory.revoke(keys, "ann")
    assert {record["state"] for record in key_directory.records(keys)} == {"revoked"} and len(moved) == 3
    assert public.is_symlink() and list(kept.iterdir()) == [kept / "broker.pub"]
